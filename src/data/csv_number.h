#pragma once

#include <string_view>

namespace hopfield::data::detail {

enum class Number { valid, not_a_number, not_finite };

/// Reads the whole text as a number, independently of the locale. Numbers too small for a double become 0.
Number parse_number(std::string_view text, double& value);

/// Whether the text would be a number if a comma in it were a decimal point.
bool has_decimal_comma(std::string_view text);

/// Whether data files commonly mark a missing value by this text: "", "?", "NA" and the like, in upper or lower case.
bool is_usual_mark(std::string_view text);

}  // namespace hopfield::data::detail
