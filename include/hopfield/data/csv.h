#pragma once

#include <hopfield/core/bags.h>

#include <ATen/core/Tensor.h>
#include <torch/arg.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace hopfield::data {

/// How a CSV file is written. By default all cells but bag ids and a header must be numbers.
struct CsvOptions {
  /// Whether the first row holds the names of the columns and is skipped. If not set, the first row is taken for names
  /// if its label is none of these: a number; a mark of a missing value ("", "?", "NA" and the like, or one of
  /// `missing`); with `positive`, that class or a text that other rows have as their label, too.
  TORCH_ARG(std::optional<bool>, header);
  /// The character between the cells: a tab, a blank or a sign that is used neither by numbers nor for quotes. If not
  /// set, it is the comma, semicolon or tab that the first two lines have equally often.
  TORCH_ARG(std::optional<char>, delimiter);
  /// Texts that mark a missing value, for example {"NA", "?"}. A mark that is a number stands for all spellings of the
  /// number: -999 is also -999.0. If there are any marks, empty cells are missing values, too. Missing features become
  /// NaN, which Standardizer::fit_with_missing() and apply_with_missing() replace by the mean. Labels and bag ids must
  /// not be missing.
  TORCH_ARG(std::vector<std::string>, missing);
  /// The label of the positive class, any text: it becomes 1, and all other labels become 0. If not set, labels must be
  /// numbers.
  TORCH_ARG(std::optional<std::string>, positive);
  /// The number of features of a trained model that the file is read for. The file must have as many. Its labels may
  /// then be missing, in single cells or as a whole column, and become NaN. If the whole column is missing, the first
  /// row is taken for names if none of its features is a number or missing, or if it numbers three or more features
  /// from 0 or from 1.
  TORCH_ARG(std::optional<int64_t>, model_features);
};

/// The bags of a file, in the order in which their ids first appear. All instances are views of one tensor.
struct MilTable {
  std::vector<Bag> bags;             ///< instances [n, features] float32, and the label that the file gives the bag
  std::vector<std::string> bag_ids;  ///< one for each bag
  int64_t features = 0;
  std::vector<std::string> label_texts;  ///< for each bag, the label as the bag's first row spells it
  bool has_header = false;               ///< whether a first row of names was skipped

  /// [bags] float64; NaN where the file has no label.
  at::Tensor labels() const;
};

/// Rows of numbers, each with a label.
struct LabelledTable {
  at::Tensor features;  ///< [rows, features] float32
  at::Tensor labels;    ///< [rows] float64; NaN where the file has no label
};

/// Reads the format of the multiple-instance benchmarks: one instance a row, with the columns bag label, bag id,
/// features...
///
///     auto table = hopfield::data::binary_labels(hopfield::data::read_mil_csv("musk1.csv"));
///     auto text_labels = hopfield::data::read_mil_csv("tumors.csv", CsvOptions().positive("malignant"));
///
/// Rows with the same id form a bag, wherever they stand in the file. Ids are any text. Numbers must be finite. They
/// are read in double precision, independently of the locale; features are then rounded to float32, and numbers that
/// are too small for a double become 0.
///
/// The file may have blanks around cells, double quotes (within which a doubled quote stands for one), a byte order
/// mark, CRLF and empty lines at its end. It may not have line breaks within quotes. The reader holds one line in
/// memory at a time, so it needs little more memory than the numbers themselves.
///
/// @throws c10::Error naming file, line and column, what was expected and what came: for a malformed file, for two rows
///         of a bag with different labels, and for a file that is not UTF-8 text, such as UTF-16 or a compressed file.
MilTable read_mil_csv(const std::string& path, const CsvOptions& options = {});

/// Reads a table: one example a row, with the columns features..., label. The format, the options and the errors are
/// those of read_mil_csv().
///
///     auto [features, labels] = hopfield::data::read_table_csv("digits.csv");
LabelledTable read_table_csv(const std::string& path, const CsvOptions& options = {});

/// Turns labels of two classes into 0 and 1; the smaller number becomes 0. [n] of any real dtype to [n] float64.
/// @throws c10::Error if the labels are not of exactly two classes.
at::Tensor binary_labels(const at::Tensor& labels);
MilTable binary_labels(MilTable table);

}  // namespace hopfield::data
