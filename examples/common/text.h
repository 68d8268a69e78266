#pragma once

#include <string>
#include <vector>

namespace hopfield::examples {

/// A user's text for a message: on one line, shortened, and in quotes.
std::string shown(const std::string& text);
std::string quote(const std::string& text);

/// The text with every byte that is not UTF-8 replaced, for JSON.
std::string valid_utf8(const std::string& text);

/// "a, b, c"
std::string joined(const std::vector<std::string>& texts);

/// The one of `known` that `text` may have been meant as, or nothing. Letter case, and '_' for '-', count little.
std::string closest(const std::string& text, const std::vector<std::string>& known);

/// "; did you mean --epochs?", or nothing.
std::string suggestion(const std::string& text, const std::vector<std::string>& known);

}  // namespace hopfield::examples
