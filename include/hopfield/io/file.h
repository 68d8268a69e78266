#pragma once

#include <string>

namespace hopfield::io {

/// Replaces a file by `content`, as a whole or not at all: a failure, a kill or a loss of power leaves the previous
/// file or the new one. @throws c10::Error if it cannot be written; the previous file is as it was then.
void write_file(const std::string& path, const std::string& content);

}  // namespace hopfield::io
