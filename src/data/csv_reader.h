#pragma once

#include <hopfield/data/csv.h>

#include <cstdint>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

namespace hopfield::data::detail {

/// What the columns of a file are.
struct CsvLayout {
  std::string words;  ///< the columns, for errors: "bag label, bag id, features..."
  int64_t ids;        ///< columns that are neither label nor feature
  bool label_last;    ///< or first
};

/// Reads rows of equally many cells as CsvOptions says, one line in memory at a time. Every error names file, line and
/// column (from 1), what was expected and what came.
class CsvReader {
 public:
  struct Label {
    double value;           ///< NaN: missing
    std::string_view text;  ///< valid until the next row
  };

  /// Opens the file and goes before its first row of data.
  /// @param function  begins every error
  CsvReader(std::string function, std::string path, CsvLayout layout, CsvOptions options);

  int64_t features() const { return columns_ - layout_.ids - (has_labels() ? 1 : 0); }
  bool has_labels() const { return label_column_ > 0; }
  bool has_header() const { return has_header_; }
  /// What a file of this size may hold: each cell is followed by a character, and few may be empty.
  int64_t most_rows() const;

  /// Goes to the next row; false at the end of the file.
  bool next_row();

  /// The row's next cell, without quotes and surrounding blanks. Valid until the next row.
  std::string_view cell();
  /// The row's next cell as its label; NaN without taking a cell if the file has no labels.
  Label label();
  /// The row's next cell as a feature; NaN if it is missing.
  float feature();

  /// Throws at a column of the current line; column 0 means the whole line.
  [[noreturn]] void fail(int64_t column, const std::string& expected, const std::string& got) const;
  /// A cell as an error shows it: quoted, shortened, only printable characters.
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
  std::vector<double> missing_numbers_;  // marks of missing values that are numbers
  char delimiter_ = ',';
  std::string_view blanks_ = " \t";
  std::ifstream stream_;
  std::string line_;
  std::string unescaped_;  // cells of the line that held doubled quotes
  std::string_view rest_;  // of line_, not yet taken
  bool row_taken_ = true;  // an empty rest is a last, empty cell otherwise
  bool has_header_ = false;
  int64_t size_ = 0;  // of the file in bytes
  int64_t rows_ = 0;  // gone to so far
  int64_t line_number_ = 0;
  int64_t column_ = 0;  // of the cell taken last
  int64_t columns_ = 0;
  int64_t label_column_ = 0;  // 0: there is none
};

}  // namespace hopfield::data::detail
