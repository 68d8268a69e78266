#include "model.h"

#include "common/report.h"
#include "common/text.h"
#include <hopfield/io/state_dict.h>

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <torch/nn/functional/loss.h>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <cmath>
#include <limits>

namespace hopfield::lm {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kKey = "hopfield_lm";  // of the metadata

nn::HopfieldEncoderLayer hopfield_layer(const ModelOptions& o) {
  const auto beta = o.beta.value_or(1 / std::sqrt(static_cast<double>(o.width / o.heads)));
  auto association = nn::HopfieldOptions(o.width).num_heads(o.heads).normalize_inputs(false);
  association.scaling(std::vector<double>(static_cast<size_t>(o.heads), beta)).scaling_as_trainable(o.learns_beta);
  association.fixed_steps(o.update_steps);
  return nn::HopfieldEncoderLayer(
      nn::HopfieldEncoderLayerOptions(association).dim_feedforward(4 * o.width).dropout(0.0).activation("gelu"));
}

torch::nn::TransformerEncoderLayer torch_layer(const ModelOptions& o) {
  const torch::nn::TransformerEncoderLayerOptions options(o.width, o.heads);
  return torch::nn::TransformerEncoderLayer(torch::nn::TransformerEncoderLayerOptions(options)
                                                .dim_feedforward(4 * o.width)
                                                .dropout(0.0)
                                                .activation(torch::kGELU));
}

/// LibTorch's names of a layer's parts, and ours.
constexpr std::pair<const char*, const char*> kNames[] = {{"self_attn.", "hopfield_association.association_core."},
                                                          {"linear1.", "linear_residual."},
                                                          {"linear2.", "linear_output."},
                                                          {"norm1.", "norm_residual."},
                                                          {"norm2.", "norm_output."}};

std::string our_name(std::string name) {
  for (const auto& [theirs, ours] : kNames) {
    if (const auto place = name.find(theirs); place != std::string::npos) {
      return name.replace(place, std::string(theirs).size(), ours);
    }
  }
  return name;
}

}  // namespace

LanguageModelImpl::LanguageModelImpl(int64_t vocabulary, const ModelOptions& options, bool uses_torch)
    : context_(options.context) {
  characters_ = register_module("characters", torch::nn::Embedding(vocabulary, options.width));
  places_ = register_module("places", torch::nn::Embedding(options.context, options.width));
  for (int64_t i = 0; i < options.layers; ++i) {
    const auto name = fmt::format("layer{}", i);
    if (uses_torch) {
      torch_layers_.push_back(register_module(name, torch_layer(options)));
    } else {
      hopfield_layers_.push_back(register_module(name, hopfield_layer(options)));
    }
  }
  head_ = register_module("head", torch::nn::Linear(options.width, vocabulary));
}

at::Tensor LanguageModelImpl::embed(const at::Tensor& characters) {
  return characters_->forward(characters) + places_->forward(at::arange(characters.size(1), characters.options()));
}

at::Tensor LanguageModelImpl::pass(size_t layer, const at::Tensor& x) {
  if (torch_layers_.empty()) return hopfield_layers_[layer]->forward(x, {}, {}, /*is_causal=*/true);
  const auto length = x.size(1);
  const auto mask = at::full({length, length}, -std::numeric_limits<double>::infinity(), x.options()).triu(1);
  return torch_layers_[layer]->forward(x.transpose(0, 1), mask).transpose(0, 1);
}

at::Tensor LanguageModelImpl::forward(const at::Tensor& characters) {
  auto x = embed(characters);
  for (size_t i = 0; i < hopfield_layers_.size() + torch_layers_.size(); ++i) x = pass(i, x);
  return head_->forward(x);
}

at::Tensor LanguageModelImpl::loss(const at::Tensor& windows) {
  const auto logits = forward(windows.slice(1, 0, windows.size(1) - 1));
  return torch::nn::functional::cross_entropy(logits.flatten(0, 1), windows.slice(1, 1).flatten());
}

std::vector<theory::HeadClasses> LanguageModelImpl::head_classes(const at::Tensor& characters) {
  const at::NoGradGuard no_grad;
  std::vector<theory::HeadClasses> classes;
  auto x = embed(characters);
  for (size_t i = 0; i < hopfield_layers_.size(); ++i) {
    classes.push_back(theory::classify_heads(hopfield_layers_[i]->hopfield_association, {x, x}, {{}, {}, {}, true}));
    x = pass(i, x);
  }
  return classes;
}

std::vector<double> LanguageModelImpl::betas() const {
  std::vector<double> all;
  for (const auto& layer : hopfield_layers_) {
    const auto beta = layer->hopfield_association->association_core->beta().detach().to(at::kDouble).contiguous();
    all.insert(all.end(), beta.data_ptr<double>(), beta.data_ptr<double>() + beta.numel());
  }
  return all;
}

void LanguageModelImpl::copy_from(const LanguageModelImpl& torch_model) {
  const at::NoGradGuard no_grad;
  auto ours = named_parameters();
  for (const auto& entry : torch_model.named_parameters()) ours[our_name(entry.key())].copy_(entry.value());
}

std::string write_text(LanguageModel& model, const Vocabulary& vocabulary, int64_t context,
                       const SampleOptions& options) {
  const at::NoGradGuard no_grad;
  const auto generator = at::make_generator<at::CPUGeneratorImpl>(options.seed);
  auto text = options.prompt;
  auto characters = vocabulary.encode("--prompt", text).unsqueeze(0);
  for (int64_t i = 0; i < options.length; ++i) {
    const auto seen = characters.slice(1, std::max<int64_t>(0, characters.size(1) - context));
    const auto weights = (model->forward(seen)[0][-1].to(at::kDouble) / options.temperature).softmax(0);
    const auto next = at::multinomial(weights, 1, false, generator);
    text += vocabulary.character(next.item<int64_t>());
    characters = at::cat({characters, next.unsqueeze(0)}, 1);
  }
  return text;
}

void save_model(const std::string& path, const SavedModel& saved) {
  const auto& o = saved.options;
  Json json{{"layers", o.layers},
            {"heads", o.heads},
            {"width", o.width},
            {"context", o.context},
            {"update_steps", o.update_steps},
            {"learns_beta", o.learns_beta}};
  if (o.beta) json["beta"] = *o.beta;
  auto& bytes = json["vocabulary"] = Json::array();
  for (const char byte : saved.vocabulary.bytes()) bytes.push_back(static_cast<unsigned char>(byte));
  json["type"] = c10::toString(saved.model->parameters().front().scalar_type());
  io::save_module(path, *saved.model, {{kKey, examples::json_text(json, -1)}});
}

SavedModel load_model(const std::string& path) {
  const auto file = reading("--model", [&] { return io::load_safetensors(path); });
  const auto refuse = [&](const std::string& got) {
    throw UsageError{"--model: expected a model that --save-model wrote, got " + examples::quote(path) + got};
  };
  const auto entry = file.metadata.find(kKey);
  if (entry == file.metadata.end()) refuse(", which is none");
  SavedModel saved;
  try {
    const auto json = Json::parse(entry->second);
    auto& o = saved.options;
    o.layers = json.at("layers"), o.heads = json.at("heads"), o.width = json.at("width");
    o.context = json.at("context"), o.update_steps = json.at("update_steps"), o.learns_beta = json.at("learns_beta");
    if (json.contains("beta")) o.beta = json.at("beta").get<double>();
    std::string bytes;
    for (const auto& byte : json.at("vocabulary")) bytes += static_cast<char>(byte.get<int>());
    saved.vocabulary = Vocabulary(bytes);
    const auto* embedding = file.tensors.find("characters.weight");
    const bool fits = embedding != nullptr && embedding->dim() == 2 && o.layers >= 1 && o.layers <= 1000 &&
                      o.heads >= 1 && o.width % o.heads == 0 && embedding->size(1) == o.width && o.context >= 1 &&
                      o.context <= 1000000 && embedding->size(0) == saved.vocabulary.size() && o.update_steps >= 0;
    if (!fits) refuse(", whose description does not fit its weights");
    saved.model = LanguageModel(saved.vocabulary.size(), o, /*uses_torch=*/false);
    saved.model->to(embedding->scalar_type());
  } catch (const Json::exception&) {
    refuse(", whose description is damaged");
  }
  reading("--model", [&] { return io::load_state_dict(*saved.model, file.tensors); });
  return saved;
}

}  // namespace hopfield::lm
