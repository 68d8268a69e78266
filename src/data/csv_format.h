#pragma once

#include <cstdint>
#include <string_view>

namespace hopfield::data::detail {

/// What a file that begins so is, if it is no UTF-8 text, and what to do about it; empty otherwise.
std::string_view foreign_format(std::string_view begin);

/// The character between the cells of two first lines: semicolon, tab or comma. It stands in both equally often, and
/// often enough for `least_columns`, if there is such a character.
char find_delimiter(std::string_view first, std::string_view second, int64_t least_columns);

/// Whether cells can be separated by this character: a tab, a blank or a sign that numbers and quotes do not need.
bool is_delimiter(char character);

}  // namespace hopfield::data::detail
