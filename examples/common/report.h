#pragma once

#include "chart.h"
#include "output_files.h"

#include <nlohmann/json_fwd.hpp>

#include <string>
#include <vector>

namespace hopfield::examples {

/// The command line of the program, quoted for a shell.
std::string command_text(int argc, char** argv);

/// "hopfield 0.1.0, LibTorch 2.11.0, device cpu"
std::string first_line(const std::string& device);

/// Writes a picture of charts, unless the path is empty. Where gnuplot is missing, it says on standard error what was
/// written instead.
void write_picture(const std::string& program, OutputFiles& files, const NamedFile& file,
                   const std::vector<Chart>& charts);

/// Prints what could not be written. Returns the exit code.
int report_failures(const std::string& program, const OutputFiles& files);
/// The same, and before it, unless quiet, what has been written.
int report_files(const std::string& program, const OutputFiles& files, bool quiet);

/// What every JSON file begins with: the versions of the library and of LibTorch, and the command line.
nlohmann::ordered_json json_header(const std::string& command);

/// JSON as text. Bytes of paths and names that are not UTF-8 are replaced. @param indent  of nested lines; -1: one line
std::string json_text(const nlohmann::ordered_json& json, int indent);

/// Writes JSON as a text file, which is replaced as a whole or not at all.
/// @throws c10::Error if the file cannot be written
void write_json(const std::string& path, const nlohmann::ordered_json& json);

}  // namespace hopfield::examples
