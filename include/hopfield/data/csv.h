#pragma once

#include <hopfield/core/bags.h>

#include <ATen/core/Tensor.h>
#include <torch/arg.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace hopfield::data {

/// How a file is written. Without options: numbers everywhere but in bag ids and a header.
struct CsvOptions {
  /// Whether the first row holds the names of the columns and is skipped. Without a value the first row decides: it
  /// holds names if its label is neither a number nor the mark of a missing value ("", "?", "NA" and the like or one
  /// of `missing`) nor, with `positive`, that class or a text that occurs again among the labels.
  TORCH_ARG(std::optional<bool>, header);
  /// Character between the cells: a tab, a blank or a sign that numbers and quotes do not need. Without a value a
  /// comma, a semicolon or a tab, whichever the first two lines agree on.
  TORCH_ARG(std::optional<char>, delimiter);
  /// Cells without a value: {"NA", "?"}. Marks that are numbers count by value: -999 is also -999.0. If there are any
  /// marks, empty cells are without a value, too. Such features are NaN; Standardizer::fit_with_missing() and
  /// apply_with_missing() replace them by the mean. Labels and bag ids cannot be missing.
  TORCH_ARG(std::vector<std::string>, missing);
  /// The label, of any text, that becomes 1; all others become 0. Without a value labels are numbers.
  TORCH_ARG(std::optional<std::string>, positive);
  /// Features of the model that the file is read for. The file must have as many; then its labels may be missing, each
  /// for itself or with their whole column, and are NaN. Where there is no column of labels, a first row without any
  /// number holds names, and so do three or more features that count up from 0 or 1.
  TORCH_ARG(std::optional<int64_t>, model_features);
};

/// Bags of a file, in the order in which their ids first appear. They are views of one common tensor.
struct MilTable {
  std::vector<Bag> bags;             ///< instances [n, features] float32 with the file's label
  std::vector<std::string> bag_ids;  ///< of the bags, in the same order
  int64_t features = 0;
  std::vector<std::string> label_texts;  ///< of the bags, as the first row of each spells them
  bool has_header = false;               ///< whether a first row of names was skipped

  /// [bags] float64; NaN for those of which the file has none
  at::Tensor labels() const;
};

/// Rows of numbers, each with a label.
struct LabelledTable {
  at::Tensor features;  ///< [rows, features] float32
  at::Tensor labels;    ///< [rows] float64; NaN for those of which the file has none
};

/// Reads the format of the multiple-instance benchmarks: one instance a row, with columns bag label, bag id,
/// features...
///
///     auto table = hopfield::data::binary_labels(hopfield::data::read_mil_csv("musk1.csv"));
///     auto text_labels = hopfield::data::read_mil_csv("tumors.csv", CsvOptions().positive("malignant"));
///
/// Rows with the same id form a bag, wherever they stand. Ids are any text. Numbers are finite, read in double
/// precision whatever the locale, and features are rounded once to float32; numbers too small for that become 0.
/// Blanks around cells, double quotes (a doubled one stands for itself), a byte order mark, CRLF and empty lines at the
/// end are accepted; line breaks within quotes are not. One line is in memory at a time, so the peak is little more
/// than the numbers themselves.
///
/// @throws c10::Error naming file, line and column, what was expected and what came; also if two rows of a bag differ
///         in their label, or if the file is no UTF-8 text but UTF-16 or packed.
MilTable read_mil_csv(const std::string& path, const CsvOptions& options = {});

/// Reads rows of features with the label in the last column. The same rules, options and errors.
LabelledTable read_table_csv(const std::string& path, const CsvOptions& options = {});

/// Labels of two classes as 0 and 1: the smaller number becomes 0. [n] of any real type to [n] float64.
/// @throws c10::Error if the labels are not of exactly two classes.
at::Tensor binary_labels(const at::Tensor& labels);
MilTable binary_labels(MilTable table);

}  // namespace hopfield::data
