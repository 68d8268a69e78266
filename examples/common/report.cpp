#include "report.h"

#include "console.h"
#include "errors.h"
#include "text.h"
#include <hopfield/io/file.h>
#include <hopfield/version.h>

#include <torch/version.h>

#include <fmt/format.h>
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

std::string first_line(const std::string& device) {
  return fmt::format("hopfield {}, LibTorch {}, device {}", version(), TORCH_VERSION, device);
}

void write_picture(const std::string& program, OutputFiles& files, const NamedFile& file,
                   const std::vector<Chart>& charts) {
  if (file.path.empty()) return;
  try {
    const auto remark = write_charts(file.path, charts);
    if (remark.empty()) {
      files.add_written(file.path);
    } else {
      print_error(program + ": " + remark);
    }
  } catch (const std::exception& error) {
    files.add_failure(file.option, plain_message(error));
  }
}

int report_failures(const std::string& program, const OutputFiles& files) {
  for (const auto& failure : files.failures()) print_error(program + ": " + failure);
  return files.failures().empty() ? kDone : kFailed;
}

int report_files(const std::string& program, const OutputFiles& files, bool quiet) {
  if (!files.written().empty() && !quiet) print("wrote " + joined(files.written()));
  return report_failures(program, files);
}

Json json_header(const std::string& command) {
  return {{"version", version()}, {"libtorch", TORCH_VERSION}, {"command", command}};
}

std::string json_text(const Json& json, int indent) {
  return json.dump(indent, ' ', false, Json::error_handler_t::replace);
}

void write_json(const std::string& path, const Json& json) { io::write_file(path, json_text(json, 2) + "\n"); }

}  // namespace hopfield::examples
