#pragma once

#include <string>
#include <vector>

namespace hopfield::examples {

/// A user's text as messages show it: on one line, and shortened if it is long.
std::string shown(const std::string& text);
/// The same in quotes.
std::string quote(const std::string& text);

/// The text with every byte that is not valid UTF-8 replaced, as JSON needs it.
std::string valid_utf8(const std::string& text);

/// What follows the name of a file from its last point on, in lower case: ".png". Empty if there is none.
std::string ending_of(const std::string& path);

/// Breaks a text at its blanks into lines of at most `most` characters. A longer word has a line for itself.
std::vector<std::string> break_lines(const std::string& text, size_t most);

/// The texts with commas between them: "a, b, c".
std::string joined(const std::vector<std::string>& texts);
/// The parts of a text between its commas: at least one, some of which may be empty.
std::vector<std::string> split_at_commas(const std::string& text);

/// The text among `known` that is most similar to `text`, or an empty string if none is. Upper and lower case count as
/// the same, and so do '_' and '-'.
std::string closest(const std::string& text, const std::vector<std::string>& known);

/// The end of an error message that suggests the closest() text, such as "; did you mean --epochs?". Empty if there is
/// none.
std::string suggestion(const std::string& text, const std::vector<std::string>& known);

}  // namespace hopfield::examples
