#include "common/console.h"
#include "common/font.h"
#include "common/grid.h"
#include "common/image.h"
#include "common/output_files.h"
#include "common/report.h"
#include "encoding.h"
#include "options.h"
#include "tokens.h"

#include <ATen/ATen.h>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>

namespace hopfield::encoder {
namespace {

using theory::HeadClasses;

constexpr int64_t kClasses = 4;

/// From many keys to few: light to dark, in the order in which class I to IV average over fewer of them.
constexpr examples::Color kColors[] = {
    {1.0f, 1.0f, 1.0f}, {0.99f, 0.91f, 0.60f}, {0.74f, 0.87f, 0.62f}, {0.45f, 0.74f, 0.80f}, {0.55f, 0.58f, 0.86f}};

/// The ids in sequences of `length` [N, length], or in a single one if there are fewer.
at::Tensor packed(const at::Tensor& ids, int64_t length) {
  if (ids.size(0) <= length) return ids.unsqueeze(0);
  const auto count = ids.size(0) / length;
  return ids.slice(0, 0, count * length).view({count, length});
}

/// A picture of a head's class: its colour and its name.
at::Tensor cell(int64_t number) {
  constexpr int64_t kSide = 40, kScale = 2;
  const auto& color = kColors[number];
  auto image = at::empty({kSide, kSide, 3}, at::kFloat);
  for (int64_t c = 0; c < 3; ++c) image.select(2, c).fill_(color[static_cast<size_t>(c)]);
  const std::string name = theory::head_class_name(number);
  examples::draw_text(image, kSide / 2 - 7, (kSide - examples::text_width(name, kScale)) / 2, name, kScale);
  return image;
}

at::Tensor draw(const std::vector<HeadClasses>& layers) {
  examples::Grid grid;
  grid.gap = 4;
  for (size_t i = 0; i < layers.size(); ++i) {
    auto& row = grid.rows.emplace_back();
    for (int64_t head = 0; head < layers[i].classes.size(0); ++head) {
      row.push_back({cell(layers[i].classes[head].item<int64_t>())});
      if (i == 0) grid.column_captions.push_back(std::to_string(head + 1));
    }
    grid.row_captions.push_back(fmt::format("layer {}", i + 1));
  }
  return examples::draw_grid(grid);
}

void print_table(const std::vector<HeadClasses>& layers) {
  auto header = fmt::format("{:<8}", "head");
  for (int64_t head = 0; head < layers[0].classes.size(0); ++head) header += fmt::format("{:>5}", head + 1);
  examples::print(header);
  for (size_t i = 0; i < layers.size(); ++i) {
    auto line = fmt::format("{:<8}", fmt::format("layer {}", i + 1));
    for (int64_t head = 0; head < layers[i].classes.size(0); ++head) {
      line += fmt::format("{:>5}", theory::head_class_name(layers[i].classes[head].item<int64_t>()));
    }
    examples::print(line);
  }
}

nlohmann::ordered_json json_of(const std::vector<HeadClasses>& layers) {
  auto json = nlohmann::ordered_json::array();
  for (const auto& layer : layers) {
    auto entry = nlohmann::ordered_json::array();
    for (int64_t head = 0; head < layer.classes.size(0); ++head) {
      entry.push_back({{"class", theory::head_class_name(layer.classes[head].item<int64_t>())},
                       {"median_k90", layer.median_k90[head].item<double>()},
                       {"entropy", layer.entropy[head].item<double>()}});
    }
    json.push_back(std::move(entry));
  }
  return json;
}

/// How many heads of all layers are of each class.
std::array<int64_t, kClasses> counts_of(const std::vector<HeadClasses>& layers) {
  std::array<int64_t, kClasses> counts{};
  for (const auto& layer : layers) {
    for (int64_t head = 0; head < layer.classes.size(0); ++head) {
      const auto number = layer.classes[head].item<int64_t>();
      if (number > 0) ++counts[static_cast<size_t>(number - 1)];
    }
  }
  return counts;
}

}  // namespace

int heads(const HeadsOptions& options) {
  examples::check_outputs(
      {{"--chart", options.picture}, {"--json", options.json}},
      {{"--model", options.model.path}, {"--text", options.text.text}, {"--tokens", options.text.tokens}});
  const at::NoGradGuard no_grad;
  set_threads(options.threads);
  auto model = load_model(options.model);
  const auto length = options.length;
  if (length > model->sizes().positions) {
    throw UsageError{fmt::format("--length: expected at most {}, the positions of the model, got {}",
                                 model->sizes().positions, length)};
  }
  const auto sequences = packed(read_tokens(options.text, model, options.model.path).ids, length);
  const auto layers = model->head_classes(sequences);
  if (!options.quiet) {
    examples::print(examples::first_line("cpu"));
    examples::print(fmt::format("{} sequences of {} tokens", sequences.size(0), sequences.size(1)));
    print_table(layers);
  }
  examples::OutputFiles files;
  files.write({"--chart", options.picture}, [&](const auto& path) { examples::write_image(path, draw(layers)); });
  files.write({"--json", options.json}, [&](const auto& path) {
    auto json = examples::json_header(options.command);
    json["sequences"] = sequences.size(0);
    json["length"] = sequences.size(1);
    json["layers"] = json_of(layers);
    examples::write_json(path, json);
  });
  const auto code = examples::report_files("hopfield_encoder", files, options.quiet);
  if (const auto note = layers.front().note(); !note.empty()) examples::print_error("hopfield_encoder: " + note);
  const auto counts = counts_of(layers);
  examples::print(fmt::format("heads of class I {}, II {}, III {}, IV {}", counts[0], counts[1], counts[2], counts[3]));
  return code;
}

}  // namespace hopfield::encoder
