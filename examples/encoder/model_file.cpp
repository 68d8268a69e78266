// The weights of a BERT encoder, by their names in its file.

#include "common/text.h"
#include "model.h"
#include <hopfield/io/state_dict.h>

#include <ATen/ATen.h>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>

namespace hopfield::encoder {
namespace {

namespace fs = std::filesystem;

/// A parameter of ours, and the tensors of the file that it is made of, one below the other. {} is the layer's number.
struct Mapped {
  const char* ours;
  std::vector<const char*> theirs;
};

const std::vector<Mapped>& embedding_names() {
  static const std::vector<Mapped> names{{"words.weight", {"embeddings.word_embeddings.weight"}},
                                         {"positions.weight", {"embeddings.position_embeddings.weight"}},
                                         {"types.weight", {"embeddings.token_type_embeddings.weight"}},
                                         {"norm.weight", {"embeddings.LayerNorm.weight"}},
                                         {"norm.bias", {"embeddings.LayerNorm.bias"}}};
  return names;
}

/// Without "layer{}." and "encoder.layer.{}." before the names, and for weights and biases alike.
const std::vector<Mapped>& layer_names() {
  static const std::vector<Mapped> names{
      {"hopfield_association.association_core.in_proj_",
       {"attention.self.query.", "attention.self.key.", "attention.self.value."}},
      {"hopfield_association.association_core.out_proj.", {"attention.output.dense."}},
      {"norm_residual.", {"attention.output.LayerNorm."}},
      {"linear_residual.", {"intermediate.dense."}},
      {"linear_output.", {"output.dense."}},
      {"norm_output.", {"output.LayerNorm."}}};
  return names;
}

/// What a file may have that an encoder of sentences does not use.
bool is_unused(const std::string& name) { return name == "embeddings.position_ids" || name.rfind("pooler.", 0) == 0; }

/// All parameters of ours with the names of what they are made of.
std::map<std::string, std::vector<std::string>> all_names(int64_t layers) {
  std::map<std::string, std::vector<std::string>> all;
  for (const auto& [ours, theirs] : embedding_names()) all[ours] = {theirs.begin(), theirs.end()};
  for (int64_t i = 0; i < layers; ++i) {
    for (const auto& [ours, theirs] : layer_names()) {
      for (const auto* kind : {"weight", "bias"}) {
        auto& names = all[fmt::format("layer{}.{}{}", i, ours, kind)];
        for (const auto* name : theirs) names.push_back(fmt::format("encoder.layer.{}.{}{}", i, name, kind));
      }
    }
  }
  return all;
}

std::string quoted(const std::vector<std::string>& names) {
  constexpr size_t kMost = 12;
  std::vector<std::string> texts;
  for (size_t i = 0; i < std::min(names.size(), kMost); ++i) texts.push_back(examples::quote(names[i]));
  return examples::joined(texts) + (names.size() > kMost ? fmt::format(" and {} more", names.size() - kMost) : "");
}

/// config.json beside the model; null if there is none.
nlohmann::json read_config(const std::string& model) {
  std::ifstream file(fs::path(model).parent_path() / "config.json");
  if (!file.is_open()) return nullptr;
  const auto json = nlohmann::json::parse(file, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object())
    throw UsageError{"--model: expected config.json beside it to be a JSON object, got other text"};
  return json;
}

template <typename Value>
Value config_value(const nlohmann::json& config, const char* key, Value otherwise) {
  if (!config.is_object() || !config.contains(key)) return otherwise;
  try {
    return config.at(key).get<Value>();
  } catch (const nlohmann::json::exception&) {
    throw UsageError{
        fmt::format("--model: expected config.json beside it to have a usable {}, got {}", key, config.at(key).dump())};
  }
}

void check_config(const nlohmann::json& config) {
  const auto check = [&](const char* key, const std::string& expected) {
    const auto value = config_value<std::string>(config, key, expected);
    if (value == expected) return;
    throw UsageError{
        fmt::format("--model: expected {} to be {} in config.json beside it, got {}", key, expected, value)};
  };
  check("hidden_act", "gelu");
  check("position_embedding_type", "absolute");
}

/// The sizes of the tensors. What is missing is found later.
Sizes sizes_of(const io::TensorDict& tensors, const ModelOptions& options) {
  Sizes sizes;
  const auto size = [&](const std::string& name, int64_t dimension) {
    const auto* tensor = tensors.find(name);
    return tensor != nullptr && tensor->dim() == 2 ? tensor->size(dimension) : int64_t{1};
  };
  sizes.vocabulary = size("embeddings.word_embeddings.weight", 0);
  sizes.width =
      std::max(size("embeddings.word_embeddings.weight", 1), size("embeddings.position_embeddings.weight", 1));
  sizes.positions = size("embeddings.position_embeddings.weight", 0);
  sizes.types = size("embeddings.token_type_embeddings.weight", 0);
  sizes.inner = size("encoder.layer.0.intermediate.dense.weight", 0);
  while (tensors.contains(fmt::format("encoder.layer.{}.output.dense.weight", sizes.layers))) ++sizes.layers;
  const auto config = read_config(options.path);
  check_config(config);
  sizes.layer_norm_eps = config_value(config, "layer_norm_eps", 1e-12);
  sizes.heads =
      options.heads.value_or(config_value(config, "num_attention_heads", std::max<int64_t>(1, sizes.width / 32)));
  if (sizes.heads < 1 || sizes.width % sizes.heads != 0) {
    throw UsageError{fmt::format("--heads: expected a divisor of the width {}, got {}", sizes.width, sizes.heads)};
  }
  return sizes;
}

}  // namespace

SentenceEncoder load_model(const ModelOptions& options) {
  const auto file = reading("--model", [&] { return io::load_safetensors(options.path); });
  const auto sizes = sizes_of(file.tensors, options);
  SentenceEncoder model(sizes, options);
  const auto parameters = model->named_parameters();
  std::vector<std::string> missing, unexpected, misshapen;
  std::map<std::string, bool> known;
  io::TensorDict state;
  for (const auto& [ours, theirs] : all_names(std::max<int64_t>(sizes.layers, 1))) {
    const auto* parameter = parameters.find(ours);
    std::vector<at::Tensor> parts;
    for (const auto& name : theirs) {
      known[name] = true;
      const auto* tensor = file.tensors.find(name);
      if (tensor == nullptr) {
        missing.push_back(name);
        continue;
      }
      auto shape = parameter != nullptr ? parameter->sizes().vec() : tensor->sizes().vec();
      if (parameter != nullptr) shape[0] /= static_cast<int64_t>(theirs.size());
      const bool fits = tensor->sizes() == at::IntArrayRef(shape) && at::isFloatingType(tensor->scalar_type());
      if (!fits)
        misshapen.push_back(
            fmt::format("{} {} instead of {}", name, c10::str(tensor->sizes()), c10::str(at::IntArrayRef(shape))));
      parts.push_back(*tensor);
    }
    if (missing.empty() && misshapen.empty()) state.insert(ours, at::cat(parts));
  }
  for (const auto& entry : file.tensors) {
    if (known.count(entry.key()) == 0 && !is_unused(entry.key())) unexpected.push_back(entry.key());
  }
  if (!missing.empty() || !unexpected.empty() || !misshapen.empty()) {
    std::vector<std::string> parts;
    if (!missing.empty()) parts.push_back("without " + quoted(missing));
    if (!unexpected.empty()) parts.push_back("with " + quoted(unexpected));
    if (!misshapen.empty()) parts.push_back("with other shapes: " + quoted(misshapen));
    throw UsageError{fmt::format("--model: expected the weights of a BERT encoder, got {} {}",
                                 examples::quote(options.path), examples::joined(parts))};
  }
  reading("--model", [&] { return io::load_state_dict(*model, state); });
  model->eval();
  return model;
}

}  // namespace hopfield::encoder
