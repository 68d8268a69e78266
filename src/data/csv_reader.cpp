#include "data/csv_reader.h"

#include "data/csv_format.h"
#include "data/csv_number.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <limits>
#include <system_error>
#include <utility>

namespace hopfield::data::detail {
namespace {

/// Features that count up from 0 or 1 are taken for names of columns. With fewer features than these, they might be
/// data.
constexpr int64_t kLeastNamedByNumbers = 3;

bool contains(const std::vector<std::string>& texts, std::string_view text) {
  return std::find(texts.begin(), texts.end(), text) != texts.end();
}

}  // namespace

CsvReader::CsvReader(std::string function, std::string path, CsvLayout layout, CsvOptions options)
    : function_(std::move(function)), path_(std::move(path)), layout_(std::move(layout)), options_(std::move(options)) {
  for (const auto& mark : options_.missing()) {
    double number;
    if (parse_number(mark, number) == Number::valid) missing_numbers_.push_back(number);
  }
  open();
  choose_delimiter();
  if (!next_filled_line()) fail(0, "at least one row", "an empty file");
  if (rest_.find('\r') != std::string_view::npos) fail(0, "lines that end with LF or CRLF", "a lone carriage return");
  choose_columns();
  has_header_ = first_row_is_header();
  if (has_header_ && !next_filled_line()) fail(0, "at least one row below the header", "the end of the file");
  check_columns();
}

void CsvReader::open() {
  namespace fs = std::filesystem;
  std::error_code error;
  const auto status = fs::status(path_, error);
  TORCH_CHECK(fs::exists(status), function_, ": expected a file at '", path_, "', got nothing there; check the path");
  TORCH_CHECK(fs::is_regular_file(status), function_, ": expected a file at '", path_, "', got ",
              fs::is_directory(status) ? "a folder" : "a device or pipe");
  size_ = static_cast<int64_t>(fs::file_size(path_, error));
  stream_.open(path_, std::ios::binary);
  TORCH_CHECK(stream_.is_open(), function_, ": expected to read '", path_, "', got: ", std::strerror(errno));
  std::string begin(16, '\0');
  stream_.read(begin.data(), static_cast<std::streamsize>(begin.size()));
  begin.resize(static_cast<size_t>(stream_.gcount()));
  const auto format = foreign_format(begin);
  if (!format.empty()) fail(0, "text in UTF-8", std::string(format));
  rewind();
}

void CsvReader::rewind() {
  stream_.clear();
  stream_.seekg(0);
  line_number_ = 0;
}

void CsvReader::choose_delimiter() {
  if (options_.delimiter()) {
    delimiter_ = *options_.delimiter();
    TORCH_CHECK(is_delimiter(delimiter_), function_,
                ": expected CsvOptions::delimiter to be a tab, a blank or a sign that numbers and quotes do not need, "
                "got ",
                shown({&delimiter_, 1}));
  } else if (next_line()) {
    const std::string first(rest_);
    delimiter_ = find_delimiter(first, next_line() ? rest_ : std::string_view(), least_columns());
    rewind();
  }
  blanks_ = delimiter_ == '\t' ? " " : delimiter_ == ' ' ? "\t" : " \t";
}

void CsvReader::choose_columns() {
  columns_ = count_cells();
  bool labels = true;
  if (const auto features = options_.model_features()) {
    const auto unlabelled = layout_.ids + *features;
    labels = columns_ != unlabelled;
    if (labels && columns_ != unlabelled + 1) {
      fail(0,
           c10::str(unlabelled + 1, " columns (", layout_.words, ", with ", *features, " features), or ", unlabelled,
                    " without labels"),
           std::to_string(columns_));
    }
  } else if (columns_ < least_columns()) {
    fail(0, c10::str("at least ", least_columns(), " columns (", layout_.words, ")"),
         c10::str(columns_, columns_ == 1 ? "; CsvOptions::delimiter names the character between cells" : ""));
  }
  if (labels) label_column_ = layout_.label_last ? columns_ : 1;
}

int64_t CsvReader::most_rows() const {
  // Each cell is followed by a delimiter or a line break. All cells but the label hold at least one character, too,
  // unless empty cells are missing values.
  const auto least_size = options_.missing().empty() ? 2 * columns_ - 1 : columns_;
  return (size_ + 1) / least_size + 1;  // one more, so that a row of empty cells is read and refused for its cells
}

bool CsvReader::next_row() {
  if (rows_ > 0) {
    if (!next_filled_line()) return false;
    check_columns();
  }
  if (rows_++ >= most_rows()) fail(0, "a file that does not change while it is read", "more rows than its size allows");
  return true;
}

bool CsvReader::next_line() {
  if (!std::getline(stream_, line_)) {
    if (stream_.bad()) fail(0, "to read the next line", "an error of the file system");
    return false;
  }
  ++line_number_;
  column_ = 0;
  rest_ = line_;
  row_taken_ = false;
  unescaped_.clear();
  if (line_number_ == 1 && rest_.substr(0, 3) == "\xEF\xBB\xBF") rest_.remove_prefix(3);
  if (!rest_.empty() && rest_.back() == '\r') rest_.remove_suffix(1);
  if (rest_.find('\0') != std::string_view::npos) fail(0, "text", "a NUL byte");
  return true;
}

bool CsvReader::next_filled_line() {
  int64_t empty_line = 0;
  while (next_line()) {
    if (!without_leading_blanks(rest_).empty()) {
      if (empty_line == 0) return true;
      line_number_ = empty_line;
      fail(0, "empty lines only at the end of the file", "one before a filled line");
    }
    if (empty_line == 0) empty_line = line_number_;
  }
  return false;
}

void CsvReader::check_columns() {
  const auto cells = count_cells();
  if (cells == columns_) return;
  const bool open_end = cells == columns_ + 1 && without_trailing_blanks(rest_).back() == delimiter_;
  fail(0, c10::str(columns_, " columns like the first line"),
       c10::str(cells, open_end ? "; the line ends with a delimiter" : ""));
}

/// Calls `visit` with the cells of the line until it returns false, then goes back to the beginning of the line.
template <typename Visit>
void CsvReader::look_ahead(const Visit& visit) {
  const auto rest = rest_;
  while (!row_taken_ && visit(cell())) {
  }
  rest_ = rest;
  row_taken_ = false;
  column_ = 0;
  unescaped_.clear();
}

int64_t CsvReader::count_cells() {
  if (rest_.find('"') == std::string_view::npos) return std::count(rest_.begin(), rest_.end(), delimiter_) + 1;
  int64_t cells = 0;
  look_ahead([&](std::string_view) { return ++cells > 0; });
  return cells;
}

/// The cell in a column of the current line; empty if the line has fewer cells.
std::string CsvReader::cell_at(int64_t column) {
  std::string result;
  look_ahead([&](std::string_view text) {
    if (column_ == column) result = text;
    return column_ < column;
  });
  return result;
}

bool CsvReader::first_row_is_header() {
  if (options_.header()) return *options_.header();
  if (!has_labels()) return first_row_names_features();
  const auto label = cell_at(label_column_);
  if (is_value(label)) return false;
  return !options_.positive() || (label != *options_.positive() && !label_occurs_again(label));
}

/// Whether the first row of a file without labels is a header: if no feature is a number or missing, or if the features
/// count up from 0 or 1.
bool CsvReader::first_row_names_features() {
  bool any_value = false;
  double first = 0;
  int64_t counted = 0, position = -1 - layout_.ids;
  look_ahead([&](std::string_view text) {
    double number = 0;
    if (++position < 0) return parse_number(text, number) == Number::not_a_number;
    any_value |= is_value(text);
    if (parse_number(text, number) == Number::valid) {
      if (position == 0) first = number;
      if ((first == 0 || first == 1) && number == first + static_cast<double>(position)) ++counted;
    }
    return true;
  });
  return position >= 0 && (!any_value || (counted == features() && counted >= kLeastNamedByNumbers));
}

bool CsvReader::label_occurs_again(const std::string& label) {
  bool found = false;
  while (!found && next_line()) found = cell_at(label_column_) == label;
  rewind();
  next_filled_line();
  return found;
}

std::string_view CsvReader::without_leading_blanks(std::string_view text) const {
  return text.substr(std::min(text.find_first_not_of(blanks_), text.size()));
}

std::string_view CsvReader::without_trailing_blanks(std::string_view text) const {
  return text.substr(0, text.find_last_not_of(blanks_) + 1);
}

std::string_view CsvReader::cell() {
  ++column_;
  rest_ = without_leading_blanks(rest_);
  if (!rest_.empty() && rest_.front() == '"') return quoted_cell();
  const auto end = rest_.find(delimiter_);
  const auto taken = rest_.substr(0, end);
  row_taken_ = end == std::string_view::npos;
  rest_.remove_prefix(row_taken_ ? rest_.size() : end + 1);
  return without_trailing_blanks(taken);
}

std::string_view CsvReader::quoted_cell() {
  auto close = rest_.find('"', 1);
  bool doubled = false;
  while (close != std::string_view::npos && rest_.substr(close + 1, 1) == "\"") {
    doubled = true;
    close = rest_.find('"', close + 2);
  }
  if (close == std::string_view::npos) fail(column_, "a closing quote on the same line", shown(rest_));
  const auto taken = rest_.substr(1, close - 1);
  rest_ = without_leading_blanks(rest_.substr(close + 1));
  row_taken_ = rest_.empty();
  if (!row_taken_) {
    if (rest_.front() != delimiter_) fail(column_, "a delimiter after the closing quote", shown(rest_));
    rest_.remove_prefix(1);
  }
  const auto text = without_trailing_blanks(without_leading_blanks(taken));
  return doubled ? unescaped(text) : text;
}

std::string_view CsvReader::unescaped(std::string_view text) {
  unescaped_.reserve(line_.size());  // enough for all cells of the line: views of earlier cells must stay valid
  const auto begin = unescaped_.size();
  for (size_t i = 0; i < text.size(); ++i) {
    unescaped_ += text[i];
    if (text[i] == '"') ++i;
  }
  return std::string_view(unescaped_).substr(begin);
}

bool CsvReader::is_missing(std::string_view text) const {
  if (options_.missing().empty()) return false;
  double number = 0;
  return text.empty() || contains(options_.missing(), text) ||
         (parse_number(text, number) == Number::valid &&
          std::find(missing_numbers_.begin(), missing_numbers_.end(), number) != missing_numbers_.end());
}

bool CsvReader::is_positive(std::string_view text) const {
  if (text == *options_.positive()) return true;
  double number = 0, positive = 0;
  return parse_number(text, number) == Number::valid && parse_number(*options_.positive(), positive) == Number::valid &&
         number == positive;
}

/// Whether a cell holds data and not the name of a column: a number, even a malformed one, or the mark of a missing
/// value.
bool CsvReader::is_value(std::string_view text) const {
  double number;
  return parse_number(text, number) != Number::not_a_number || has_decimal_comma(text) || is_usual_mark(text) ||
         is_missing(text);
}

CsvReader::Label CsvReader::label() {
  constexpr auto kNone = std::numeric_limits<double>::quiet_NaN();
  if (!has_labels()) return {kNone, {}};
  const auto text = cell();
  const bool unknown = is_missing(text) || (is_usual_mark(text) && (options_.model_features() || options_.positive()));
  if (unknown && options_.model_features()) return {kNone, text};
  if (unknown) fail(column_, "a label", shown(text) + "; labels cannot be missing");
  if (options_.positive()) return {is_positive(text) ? 1.0 : 0.0, text};
  double value = 0;
  if (parse_number(text, value) != Number::valid) fail_number(text);
  return {value, text};
}

float CsvReader::feature() {
  const auto text = cell();
  double value = 0;
  const bool is_number = parse_number(text, value) == Number::valid;
  if ((!is_number || !missing_numbers_.empty()) && is_missing(text)) return std::numeric_limits<float>::quiet_NaN();
  if (!is_number) fail_number(text);
  if (std::abs(value) > std::numeric_limits<float>::max()) {
    fail(column_, "a number within the range of float32", c10::str(value));
  }
  return static_cast<float>(value);
}

void CsvReader::fail(int64_t column, const std::string& expected, const std::string& got) const {
  TORCH_CHECK(false, function_, ": ", path_, line_number_ > 0 ? c10::str(", line ", line_number_) : "",
              column > 0 ? c10::str(", column ", column) : "", ": expected ", expected, ", got ", got);
}

void CsvReader::fail_number(std::string_view text) const {
  double number;
  const bool is_finite = parse_number(text, number) != Number::not_finite;
  fail(column_, is_finite ? "a number" : "a finite number", shown(text) + advice(text));
}

/// Advice for the error message about a cell that is not a number. Empty if there is none.
std::string CsvReader::advice(std::string_view text) const {
  if (has_decimal_comma(text)) return "; write numbers with a decimal point";
  if (column_ == label_column_) {
    if (is_usual_mark(text)) return "; labels cannot be missing";
    double number;
    if (parse_number(text, number) == Number::not_finite) return "";
    return "; CsvOptions::positive names the positive class of labels that are text";
  }
  if (is_usual_mark(text)) return "; CsvOptions::missing names marks of missing values";
  if (!has_labels() && column_ == layout_.ids + 1) {
    return c10::str("; ", columns_, " columns are read as ", features(), " features without labels");
  }
  if (line_number_ == 1 && !options_.header()) return "; CsvOptions::header tells whether the first row holds names";
  return "";
}

std::string CsvReader::shown(std::string_view text) {
  if (text.empty()) return "an empty cell";
  constexpr size_t kShown = 40;
  constexpr auto* kDigits = "0123456789abcdef";
  std::string result = "'";
  for (const char character : text.substr(0, kShown)) {
    const auto byte = static_cast<unsigned char>(character);
    if (byte >= ' ' && byte <= '~') {
      result += character;
    } else {
      result += {'\\', 'x', kDigits[byte / 16], kDigits[byte % 16]};
    }
  }
  return result + (text.size() > kShown ? "...'" : "'");
}

}  // namespace hopfield::data::detail
