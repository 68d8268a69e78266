#pragma once

#include <optional>
#include <string>

namespace hopfield::examples {

/// A text as a gnuplot script writes it, broken into lines of at most `most` characters. Whatever the text contains,
/// gnuplot takes it for a text and not for commands. Formatting (^, _, {}, @, \) is for `noenhanced` to switch off.
std::string gnuplot_text(const std::string& text, size_t most);

/// Runs the program gnuplot with a script on its standard input.
/// @return what the script writes to standard output, or nothing if gnuplot is not installed
/// @throws c10::Error with gnuplot's message if it fails
std::optional<std::string> run_gnuplot(const std::string& script);

}  // namespace hopfield::examples
