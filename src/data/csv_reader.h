#pragma once

#include <cstdint>
#include <fstream>
#include <string>
#include <string_view>

namespace hopfield::data::detail {

/// Reads comma-separated rows of equally many cells, one line in memory at a time.
///
/// A byte order mark, CRLF, empty lines at the end, blanks around cells and cells in double quotes (commas allowed, no
/// escapes, no line breaks) are accepted. A first line without any number is taken for a header and skipped. Every
/// error names file, line and column (from 1), what was expected and what came.
class CsvReader {
 public:
  /// Opens the file and goes before its first row.
  /// @param function  begins every error
  /// @param layout    the columns in words, for the error if there are fewer than `least_columns`
  CsvReader(std::string function, std::string path, int64_t least_columns, const std::string& layout);

  int64_t columns() const { return columns_; }
  /// What a file of this size may hold: each cell has at least one character and is followed by another.
  int64_t most_rows() const { return (size_ + 1) / (2 * columns_); }

  /// Goes to the next row; false at the end of the file.
  bool next_row();

  /// The row's next cell, without quotes and surrounding blanks. Valid until the next row.
  std::string_view cell();
  /// The row's next cell as a finite number.
  double number();
  /// The same, within the range of float32.
  float number_as_float();

  /// Throws at a column of the current line; column 0 means the whole line.
  [[noreturn]] void fail(int64_t column, const std::string& expected, const std::string& got) const;
  /// A cell as an error shows it: quoted, shortened, only printable characters.
  static std::string shown(std::string_view text);

 private:
  void open();
  bool next_line();
  bool next_filled_line();
  void check_columns();
  int64_t count_cells();
  bool is_header();
  template <typename Visit>
  void look_ahead(const Visit& visit);
  std::string_view quoted_cell();

  std::string function_, path_;
  std::ifstream stream_;
  std::string line_;
  std::string_view rest_;  // of line_, not yet taken
  bool row_taken_ = true;  // an empty rest is a last, empty cell otherwise
  int64_t size_ = 0;       // of the file in bytes
  int64_t rows_ = 0;       // gone to so far
  int64_t line_number_ = 0;
  int64_t column_ = 0;  // of the cell taken last
  int64_t columns_ = 0;
};

}  // namespace hopfield::data::detail
