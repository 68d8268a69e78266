#pragma once

#include <string>

namespace hopfield::io {

/// Replaces a file by `content`, as a whole or not at all: if the write fails, the process is killed or the power is
/// lost, either the previous file or the new one is there, complete.
/// @throws c10::Error if the file cannot be written. The previous file is then unchanged.
void write_file(const std::string& path, const std::string& content);

}  // namespace hopfield::io
