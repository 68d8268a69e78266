#pragma once

#include <hopfield/core/bags.h>

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

namespace hopfield::data {

/// Bags of a file, in the order in which their ids first appear. They are views of one common tensor.
struct MilTable {
  std::vector<Bag> bags;             ///< instances [n, features] float32 with the file's label
  std::vector<std::string> bag_ids;  ///< of the bags, in the same order
  int64_t features = 0;

  /// [bags] float64
  at::Tensor labels() const;
};

/// Rows of numbers, each with a label.
struct LabelledTable {
  at::Tensor features;  ///< [rows, features] float32
  at::Tensor labels;    ///< [rows] float64
};

/// Reads the format of the multiple-instance benchmarks: one instance a row, with columns bag label, bag id,
/// features...
///
///     auto table = hopfield::data::binary_labels(hopfield::data::read_mil_csv("musk1.csv"));
///
/// Rows with the same id form a bag, wherever they stand. Ids are any text. Numbers are finite, read in double
/// precision whatever the locale, and features are rounded once to float32. Blanks around cells, simple double quotes,
/// a byte order mark, CRLF and empty lines at the end are accepted; a first line without any number is a header and
/// skipped. One line is in memory at a time, so the peak is little more than the numbers themselves.
///
/// @throws c10::Error naming file, line and column, what was expected and what came; also if two rows of a bag differ
/// in
///         their label.
MilTable read_mil_csv(const std::string& path);

/// Reads rows of features with the label in the last column. The same rules and errors.
LabelledTable read_table_csv(const std::string& path);

/// Labels of two classes as 0 and 1: the smaller number becomes 0. [n] of any real type to [n] float64.
/// @throws c10::Error if the labels are not of exactly two classes.
at::Tensor binary_labels(const at::Tensor& labels);
MilTable binary_labels(MilTable table);

}  // namespace hopfield::data
