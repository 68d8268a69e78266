#include "data/csv_number.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <system_error>

namespace hopfield::data::detail {
namespace {

/// Whether a number outside the range of a double is too small, not too large: std::from_chars reports the same error
/// for both.
bool is_below_one(std::string_view number) {
  const auto mantissa = number.substr(0, number.find_first_of("eE"));
  const auto point = std::min(mantissa.find('.'), mantissa.size());
  const auto digit = mantissa.find_first_of("123456789");
  // Positive: the number of digits before the point, from the first one that is not 0.
  const auto places = static_cast<int64_t>(point) - static_cast<int64_t>(digit);
  int64_t exponent = 0;
  if (mantissa.size() < number.size()) {
    auto text = number.substr(mantissa.size() + 1);
    if (text.front() == '+') text.remove_prefix(1);
    const auto result = std::from_chars(text.data(), text.data() + text.size(), exponent);
    if (result.ec == std::errc::result_out_of_range) return text.front() == '-';
  }
  return exponent < -places;
}

char lower(char letter) { return letter >= 'A' && letter <= 'Z' ? static_cast<char>(letter - 'A' + 'a') : letter; }

}  // namespace

Number parse_number(std::string_view text, double& value) {
  if (text.size() > 1 && text[0] == '+' && text[1] != '-') text.remove_prefix(1);
  const auto* end = text.data() + text.size();
  const auto result = std::from_chars(text.data(), end, value);
  if (result.ec == std::errc::invalid_argument || result.ptr != end) return Number::not_a_number;
  if (result.ec == std::errc::result_out_of_range) {
    if (!is_below_one(text)) return Number::not_finite;
    value = text.front() == '-' ? -0.0 : 0.0;
  }
  return std::isfinite(value) ? Number::valid : Number::not_finite;
}

bool has_decimal_comma(std::string_view text) {
  const auto comma = text.find(',');
  if (comma == std::string_view::npos || text.find('.') != std::string_view::npos) return false;
  std::string with_point(text);
  with_point[comma] = '.';
  double value;
  return parse_number(with_point, value) != Number::not_a_number;
}

bool is_usual_mark(std::string_view text) {
  constexpr std::array<std::string_view, 8> kMarks{"", "?", ".", "na", "n/a", "#n/a", "nan", "null"};
  std::string lowered(text.substr(0, 5));
  std::transform(lowered.begin(), lowered.end(), lowered.begin(), lower);
  return std::find(kMarks.begin(), kMarks.end(), lowered) != kMarks.end();
}

}  // namespace hopfield::data::detail
