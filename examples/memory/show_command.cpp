#include "commands.h"
#include "common/console.h"
#include "common/image.h"
#include "common/report.h"
#include "display.h"
#include "image_memory.h"

#include <ATen/ATen.h>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>

namespace hopfield::image_memory {
namespace {

/// Images in rows, whose captions number them from 1.
at::Tensor draw(const ImageMemory& stored, int64_t show) {
  constexpr int64_t kColumns = 8;
  const auto images = stored.images();
  const auto count = std::min(show, images.size(0));
  examples::Grid grid;
  for (int64_t first = 0; first < count; first += kColumns) {
    const auto last = std::min(first + kColumns, count);
    auto& row = grid.rows.emplace_back();
    for (int64_t i = first; i < last; ++i) row.push_back({for_display(images[i])});
    grid.row_captions.push_back(last == first + 1 ? fmt::format("{}", last) : fmt::format("{} to {}", first + 1, last));
  }
  grid.scale = scale_for(grid.rows[0][0].image);
  return examples::draw_grid(grid);
}

}  // namespace

int show(const ShowOptions& options, const std::string& command) {
  examples::check_outputs({{"--grid", options.grid}, {"--json", options.json}}, {{"--in", options.in}});
  const auto stored = load(options.in, "cpu");
  if (!options.quiet) {
    constexpr size_t kNames = 8;
    examples::print(examples::first_line("cpu"));
    for (size_t i = 0; i < std::min(kNames, stored.names.size()); ++i) {
      examples::print(fmt::format("{:>4}  {}", i + 1, stored.names[i]));
    }
    if (stored.names.size() > kNames) examples::print(fmt::format("      and {} more", stored.names.size() - kNames));
  }
  examples::OutputFiles files;
  files.write({"--grid", options.grid},
              [&](const auto& path) { examples::write_image(path, draw(stored, options.show)); });
  files.write({"--json", options.json}, [&](const auto& path) {
    auto json = examples::json_header(command);
    json["memory"] = json_of(stored);
    json["names"] = stored.names;
    examples::write_json(path, json);
  });
  const auto code = examples::report_files("hopfield_memory", files, options.quiet);
  examples::print(text_of(stored));
  return code;
}

}  // namespace hopfield::image_memory
