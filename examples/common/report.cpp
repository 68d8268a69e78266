#include "report.h"

#include <hopfield/io/file.h>

#include <nlohmann/json.hpp>

namespace hopfield::examples {

using Json = nlohmann::ordered_json;

std::string command_text(int argc, char** argv) {
  const std::string harmless = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+=/.,:@%";
  std::string text;
  for (int i = 0; i < argc; ++i) {
    std::string word = argv[i];
    if (word.empty() || word.find_first_not_of(harmless) != std::string::npos) {
      for (size_t at = 0; (at = word.find('\'', at)) != std::string::npos; at += 4) word.replace(at, 1, "'\\''");
      word = "'" + word + "'";
    }
    text += (i == 0 ? "" : " ") + word;
  }
  return text;
}

std::string json_text(const Json& json, int indent) {
  return json.dump(indent, ' ', false, Json::error_handler_t::replace);
}

void write_json(const std::string& path, const Json& json) { io::write_file(path, json_text(json, 2) + "\n"); }

}  // namespace hopfield::examples
