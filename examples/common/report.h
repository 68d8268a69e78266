#pragma once

#include <nlohmann/json_fwd.hpp>

#include <string>

namespace hopfield::examples {

/// The command line of the program, quoted for a shell.
std::string command_text(int argc, char** argv);

/// JSON as text. Bytes of paths and names that are not UTF-8 are replaced. @param indent  of nested lines; -1: one line
std::string json_text(const nlohmann::ordered_json& json, int indent);

/// Writes JSON as a text file, which is replaced as a whole or not at all.
/// @throws c10::Error if the file cannot be written
void write_json(const std::string& path, const nlohmann::ordered_json& json);

}  // namespace hopfield::examples
