#include "image_memory.h"

#include "common/report.h"
#include "common/text.h"

#include <ATen/ATen.h>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>

namespace hopfield::image_memory {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kKey = "images";  // of the metadata
constexpr int kVersion = 1;
constexpr int64_t kMostSide = 64;  // 64 x 64 pixels have 2^24 weights

template <typename Value>
void put(Json& json, const char* key, const std::optional<Value>& value) {
  if (value) json[key] = *value;
}

template <typename Value>
void take(const Json& json, const char* key, std::optional<Value>& value) {
  if (json.contains(key)) value = json.at(key).get<Value>();
}

MemoryOptions options_from(const Json& json) {
  MemoryOptions options;
  options.kind = json.at("memory").get<std::string>();
  take(json, "rule", options.rule);
  take(json, "order", options.order);
  take(json, "similarity", options.similarity);
  take(json, "beta", options.beta);
  take(json, "gain", options.gain);
  return options;
}

Json format_json(const ImageFormat& format) {
  Json json{{"width", format.width}, {"height", format.height}, {"channels", format.channels}};
  json["black_and_white"] = format.is_black_and_white;
  put(json, "threshold", format.threshold);
  return json;
}

ImageFormat format_from(const Json& json) {
  ImageFormat format{json.at("width").get<int64_t>(), json.at("height").get<int64_t>(),
                     json.at("channels").get<int64_t>(), json.at("black_and_white").get<bool>(), std::nullopt};
  take(json, "threshold", format.threshold);
  return format;
}

bool fits(const ImageMemory& stored) {
  const auto& format = stored.format;
  const auto patterns = stored.memory->patterns();
  const bool is_size = format.width > 0 && format.height > 0 && (format.channels == 1 || format.channels == 3) &&
                       format.width <= patterns.size(1) && format.height <= patterns.size(1) &&
                       format.pixels() == patterns.size(1);
  return is_size && static_cast<int64_t>(stored.names.size()) == patterns.size(0) &&
         format.is_black_and_white == is_black_and_white(stored.options.kind);
}

}  // namespace

Pictures fitted(Pictures pictures, std::string& remark) {
  const auto longest = std::max(pictures.width(), pictures.height());
  if (longest > kMostSide) {
    const auto shrunk = [&](int64_t side) { return std::max<int64_t>(1, (side * kMostSide + longest / 2) / longest); };
    const examples::ImageSize smaller{shrunk(pictures.width()), shrunk(pictures.height())};
    remark =
        fmt::format("the images were shrunk from {}x{} to {}x{}, because a network has a weight for every two pixels",
                    pictures.width(), pictures.height(), smaller.width, smaller.height);
    pictures.images = examples::resize_images(pictures.images, smaller);
  }
  return pictures;
}

ImageMemory make_image_memory(const Pictures& pictures, const std::optional<double>& threshold,
                              const MemoryOptions& options) {
  ImageMemory stored;
  const auto black_and_white = is_black_and_white(options.kind);
  stored.format = {pictures.width(), pictures.height(), black_and_white ? 1 : pictures.channels(), black_and_white,
                   black_and_white ? threshold : std::nullopt};
  const auto patterns = stored.format.patterns_of(stored.format.prepared(pictures.images));
  stored.options = completed(options, patterns);
  stored.memory = make_memory(stored.options, patterns);
  stored.names = pictures.names;
  stored.source = pictures.source;
  return stored;
}

void save(const ImageMemory& stored, const std::string& path) {
  Json json{{"version", kVersion}, {"source", stored.source}};
  json["options"] = json_of(stored.options);
  json["format"] = format_json(stored.format);
  json["names"] = stored.names;
  stored.memory->set_metadata({{kKey, examples::json_text(json, -1)}});
  stored.memory->save(path);
}

ImageMemory load(const std::string& path, const std::string& device) {
  const auto refuse = [&](const std::string& got) {
    throw UsageError{"--in: expected a memory that `hopfield_memory store` wrote, got " + examples::quote(path) + got};
  };
  if (reading("--in", [&] { return io::load_safetensors(path); }).metadata.count("hopfield.memory") == 0) {
    refuse(", which is no memory");
  }
  ImageMemory stored;
  stored.memory = reading("--in", [&] { return memory::load(path, at::Device(device)); });
  const auto& metadata = stored.memory->metadata();
  if (metadata.count(kKey) == 0) refuse(", which says nothing about images");
  try {
    const auto json = Json::parse(metadata.at(kKey));
    if (json.at("version") != kVersion) refuse(" of another version");
    stored.options = options_from(json.at("options"));
    stored.format = format_from(json.at("format"));
    stored.names = json.at("names").get<std::vector<std::string>>();
    stored.source = json.at("source").get<std::string>();
  } catch (const Json::exception&) {
    refuse(", whose description of the images is damaged");
  }
  if (!fits(stored)) refuse(", whose description of the images does not fit its patterns");
  return stored;
}

Json json_of(const MemoryOptions& options) {
  Json json{{"memory", options.kind}};
  put(json, "rule", options.rule);
  put(json, "order", options.order);
  put(json, "similarity", options.similarity);
  put(json, "beta", options.beta);
  put(json, "gain", options.gain);
  return json;
}

Json json_of(const ImageMemory& stored) {
  auto json = json_of(stored.options);
  json["class"] = stored.memory->kind();
  json["images"] = stored.memory->size();
  json["source"] = stored.source;
  json.update(format_json(stored.format));
  return json;
}

std::string text_of(const ImageMemory& stored) {
  return fmt::format("{}: {} images of {} from {}", text_of(stored.options), stored.memory->size(),
                     text_of(stored.format), examples::shown(stored.source));
}

}  // namespace hopfield::image_memory
