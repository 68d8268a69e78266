#pragma once

#include <cstdint>
#include <string_view>

namespace hopfield::data::detail {

/// If the first bytes of a file show that it is not UTF-8 text: what it is and what to do about it, for an error
/// message. Empty otherwise.
std::string_view foreign_format(std::string_view begin);

/// Guesses the character between the cells from the first two lines: a semicolon, a tab or a comma. One that occurs
/// equally often in both lines, and often enough for `least_columns`, is preferred.
char find_delimiter(std::string_view first, std::string_view second, int64_t least_columns);

/// Whether cells can be separated by this character: a tab, a blank or a sign that is used neither by numbers nor for
/// quotes.
bool is_delimiter(char character);

}  // namespace hopfield::data::detail
