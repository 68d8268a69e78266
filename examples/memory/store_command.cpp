#include "commands.h"
#include "common/console.h"
#include "common/progress.h"
#include "common/report.h"
#include "display.h"
#include "image_memory.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace hopfield::image_memory {

int store(const StoreOptions& options, const std::string& command) {
  std::vector<examples::NamedFile> inputs;
  for (const auto& path : options.images.paths) inputs.push_back({"--images", path});
  examples::check_outputs({{"--out", options.out}, {"--json", options.json}}, inputs);
  auto pictures = read_pictures(options.images);
  std::string remark;
  if (has_weights(options.memory.kind)) pictures = fitted(std::move(pictures), remark);
  if (!options.quiet) {
    examples::print(examples::first_line("cpu"));
    if (!remark.empty()) examples::print(remark);
  }
  const examples::Stopwatch watch;
  const auto stored = make_image_memory(pictures, options.images.threshold, options.memory);
  const auto seconds = watch.seconds();
  examples::OutputFiles files;
  files.write({"--out", options.out}, [&](const auto& path) { save(stored, path); });
  files.write({"--json", options.json}, [&](const auto& path) {
    auto json = examples::json_header(command);
    json["memory"] = json_of(stored);
    json["names"] = stored.names;
    json["seconds"] = seconds;
    examples::write_json(path, json);
  });
  const auto code = examples::report_files("hopfield_memory", files, options.quiet);
  examples::print(fmt::format("stored {}; {:.1f} s", text_of(stored), seconds));
  return code;
}

}  // namespace hopfield::image_memory
