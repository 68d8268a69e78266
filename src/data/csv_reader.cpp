#include "data/csv_reader.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <limits>
#include <system_error>
#include <utility>

namespace hopfield::data::detail {
namespace {

constexpr std::string_view kBlanks = " \t";

std::string_view without_leading_blanks(std::string_view text) {
  return text.substr(std::min(text.find_first_not_of(kBlanks), text.size()));
}

std::string_view without_trailing_blanks(std::string_view text) {
  return text.substr(0, text.find_last_not_of(kBlanks) + 1);
}

enum class Number { valid, not_a_number, not_finite };

/// std::from_chars does not depend on the locale, unlike strtod and streams.
Number parse(std::string_view text, double& value) {
  if (text.size() > 1 && text[0] == '+' && text[1] != '-') text.remove_prefix(1);
  const auto* end = text.data() + text.size();
  const auto result = std::from_chars(text.data(), end, value);
  if (result.ec == std::errc::invalid_argument || result.ptr != end) return Number::not_a_number;
  if (result.ec == std::errc::result_out_of_range || !std::isfinite(value)) return Number::not_finite;
  return Number::valid;
}

}  // namespace

CsvReader::CsvReader(std::string function, std::string path, int64_t least_columns, const std::string& layout)
    : function_(std::move(function)), path_(std::move(path)) {
  open();
  if (!next_filled_line()) fail(0, "at least one row", "an empty file");
  columns_ = count_cells();
  if (columns_ < least_columns) {
    fail(0, c10::str("at least ", least_columns, " columns (", layout, ")"), std::to_string(columns_));
  }
  if (is_header() && !next_filled_line()) fail(0, "at least one row below the header", "the end of the file");
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
}

bool CsvReader::next_row() {
  if (rows_ > 0) {
    if (!next_filled_line()) return false;
    check_columns();
  }
  if (rows_++ >= most_rows()) fail(0, "a file that nobody writes to", "more rows than its size allows");
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
  if (cells != columns_) fail(0, c10::str(columns_, " columns like the first line"), std::to_string(cells));
}

/// Takes the cells of the line until `visit` returns false, then goes back to the line's begin.
template <typename Visit>
void CsvReader::look_ahead(const Visit& visit) {
  const auto rest = rest_;
  while (!row_taken_ && visit(cell())) {
  }
  rest_ = rest;
  row_taken_ = false;
  column_ = 0;
}

int64_t CsvReader::count_cells() {
  if (rest_.find('"') == std::string_view::npos) return std::count(rest_.begin(), rest_.end(), ',') + 1;
  int64_t cells = 0;
  look_ahead([&](std::string_view) { return ++cells > 0; });
  return cells;
}

bool CsvReader::is_header() {
  bool any_number = false;
  look_ahead([&](std::string_view text) {
    double value;
    any_number = parse(text, value) != Number::not_a_number;
    return !any_number;
  });
  return !any_number;
}

std::string_view CsvReader::cell() {
  ++column_;
  rest_ = without_leading_blanks(rest_);
  if (!rest_.empty() && rest_.front() == '"') return quoted_cell();
  const auto comma = rest_.find(',');
  const auto taken = rest_.substr(0, comma);
  row_taken_ = comma == std::string_view::npos;
  rest_.remove_prefix(row_taken_ ? rest_.size() : comma + 1);
  return without_trailing_blanks(taken);
}

std::string_view CsvReader::quoted_cell() {
  const auto close = rest_.find('"', 1);
  if (close == std::string_view::npos) fail(column_, "a closing quote on the same line", shown(rest_));
  const auto taken = rest_.substr(1, close - 1);
  rest_ = without_leading_blanks(rest_.substr(close + 1));
  row_taken_ = rest_.empty();
  if (!row_taken_) {
    if (rest_.front() != ',') fail(column_, "a comma after the closing quote", shown(rest_));
    rest_.remove_prefix(1);
  }
  return without_trailing_blanks(without_leading_blanks(taken));
}

double CsvReader::number() {
  const auto text = cell();
  double value = 0;
  const auto parsed = parse(text, value);
  if (parsed != Number::valid) {
    fail(column_, parsed == Number::not_finite ? "a finite number" : "a number", shown(text));
  }
  return value;
}

float CsvReader::number_as_float() {
  const auto value = number();
  if (std::abs(value) > std::numeric_limits<float>::max()) {
    fail(column_, "a number within the range of float32", c10::str(value));
  }
  return static_cast<float>(value);
}

void CsvReader::fail(int64_t column, const std::string& expected, const std::string& got) const {
  TORCH_CHECK(false, function_, ": ", path_, line_number_ > 0 ? c10::str(", line ", line_number_) : "",
              column > 0 ? c10::str(", column ", column) : "", ": expected ", expected, ", got ", got);
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
