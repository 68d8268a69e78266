#pragma once

#include <hopfield/data/csv.h>

#include <cstdint>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

namespace hopfield::data::detail {

/// Which columns a file has.
struct CsvLayout {
  std::string words;  ///< the columns in words for error messages: "bag label, bag id, features..."
  int64_t ids;        ///< the number of columns that are neither label nor feature
  bool label_last;    ///< whether the label is in the last column; otherwise it is in the first
};

/// Reads a CSV file, written as CsvOptions says, row by row and cell by cell. It holds one line in memory at a time.
/// All rows must have the same number of cells. Every error names file, line and column (counted from 1), what was
/// expected and what came.
class CsvReader {
 public:
  struct Label {
    double value;           ///< NaN if it is missing
    std::string_view text;  ///< valid until the next row
  };

  /// Opens the file and stops before its first row of data.
  /// @param function  begins every error message
  CsvReader(std::string function, std::string path, CsvLayout layout, CsvOptions options);

  int64_t features() const { return columns_ - layout_.ids - (has_labels() ? 1 : 0); }
  bool has_labels() const { return label_column_ > 0; }
  bool has_header() const { return has_header_; }
  /// An upper bound of the number of rows, from the size of the file.
  int64_t most_rows() const;

  /// Goes to the next row; false at the end of the file.
  bool next_row();

  /// The next cell of the row, without quotes and surrounding blanks. The view is valid until the next row.
  std::string_view cell();
  /// Reads the next cell of the row as its label. If the file has no labels, returns NaN and reads no cell.
  Label label();
  /// Reads the next cell of the row as a feature; NaN if it is missing.
  float feature();

  /// Throws an error about a column of the current line; column 0 stands for the whole line.
  [[noreturn]] void fail(int64_t column, const std::string& expected, const std::string& got) const;
  /// A cell as an error message shows it: in quotes, shortened, with printable characters only.
  static std::string shown(std::string_view text);

 private:
  void open();
  void rewind();
  void choose_delimiter();
  void choose_columns();
  bool next_line();
  bool next_filled_line();
  void check_columns();
  int64_t count_cells();
  bool first_row_is_header();
  bool first_row_names_features();
  bool label_occurs_again(const std::string& label);
  bool is_missing(std::string_view text) const;
  bool is_positive(std::string_view text) const;
  bool is_value(std::string_view text) const;
  [[noreturn]] void fail_number(std::string_view text) const;
  std::string advice(std::string_view text) const;
  template <typename Visit>
  void look_ahead(const Visit& visit);
  std::string cell_at(int64_t column);
  std::string_view without_leading_blanks(std::string_view text) const;
  std::string_view without_trailing_blanks(std::string_view text) const;
  std::string_view quoted_cell();
  std::string_view unescaped(std::string_view text);
  int64_t least_columns() const { return layout_.ids + (options_.model_features() ? 1 : 2); }

  std::string function_, path_;
  CsvLayout layout_;
  CsvOptions options_;
  std::vector<double> missing_numbers_;  // those marks of missing values that are numbers
  char delimiter_ = ',';
  std::string_view blanks_ = " \t";
  std::ifstream stream_;
  std::string line_;
  std::string unescaped_;  // the cells of the line that had doubled quotes, without the doubling
  std::string_view rest_;  // the part of line_ that has not been read yet
  bool row_taken_ = true;  // whether all cells have been read; if not, an empty rest_ is a last, empty cell
  bool has_header_ = false;
  int64_t size_ = 0;  // bytes of the file
  int64_t rows_ = 0;  // rows read so far
  int64_t line_number_ = 0;
  int64_t column_ = 0;  // column of the cell that was read last
  int64_t columns_ = 0;
  int64_t label_column_ = 0;  // 0 if there are no labels
};

}  // namespace hopfield::data::detail
