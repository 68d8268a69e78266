#pragma once

#include "model.h"

#include <string>
#include <vector>

namespace hopfield::encoder {

/// Reads the sentences that the options name. A text goes through scripts/tokenize_text.py, whose warnings are printed.
/// @throws UsageError if the ids do not fit the model, or if the script fails
Tokens read_tokens(const TextOptions& text, const SentenceEncoder& model, const std::string& model_path);

/// The same for sentences that are not in a file.
Tokens tokens_of(const std::string& option, const std::vector<std::string>& sentences, const std::string& python,
                 const SentenceEncoder& model, const std::string& model_path);

/// The lines of a text file. @throws UsageError if it cannot be read
std::vector<std::string> read_lines(const std::string& option, const std::string& path);

}  // namespace hopfield::encoder
