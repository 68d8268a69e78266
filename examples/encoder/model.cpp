#include "model.h"

#include <ATen/ATen.h>

#include <fmt/format.h>

#include <cmath>

namespace hopfield::encoder {
namespace {

nn::HopfieldEncoderLayer make_layer(const Sizes& sizes, const ModelOptions& options) {
  const auto beta = options.beta_scale / std::sqrt(static_cast<double>(sizes.width / sizes.heads));
  auto association = nn::HopfieldOptions(sizes.width).num_heads(sizes.heads).scaling(beta);
  association.normalize_inputs(false).update_steps_max(options.update_steps);
  return nn::HopfieldEncoderLayer(nn::HopfieldEncoderLayerOptions(association)
                                      .dim_feedforward(sizes.inner)
                                      .dropout(0.0)
                                      .activation("gelu")
                                      .layer_norm_eps(sizes.layer_norm_eps));
}

}  // namespace

Tokens Tokens::part(int64_t first, int64_t end) const {
  const auto bounds = offsets.slice(0, first, end + 1);
  const auto begin = bounds[0].item<int64_t>();
  return {ids.slice(0, begin, bounds[-1].item<int64_t>()), bounds - begin};
}

SentenceEncoderImpl::SentenceEncoderImpl(const Sizes& sizes, const ModelOptions& options) : sizes_(sizes) {
  words_ = register_module("words", torch::nn::Embedding(sizes.vocabulary, sizes.width));
  positions_ = register_module("positions", torch::nn::Embedding(sizes.positions, sizes.width));
  types_ = register_module("types", torch::nn::Embedding(sizes.types, sizes.width));
  const auto norm = torch::nn::LayerNormOptions({sizes.width}).eps(sizes.layer_norm_eps);
  norm_ = register_module("norm", torch::nn::LayerNorm(norm));
  for (int64_t i = 0; i < sizes.layers; ++i) {
    layers_.push_back(register_module(fmt::format("layer{}", i), make_layer(sizes, options)));
  }
}

at::Tensor SentenceEncoderImpl::embed(const at::Tensor& ids, const at::Tensor& positions) {
  return norm_->forward(words_->forward(ids) + positions_->forward(positions) + types_->weight[0]);
}

at::Tensor SentenceEncoderImpl::forward(const Tokens& tokens) {
  const auto lengths = at::diff(tokens.offsets);
  const auto sentence = at::repeat_interleave(lengths);  // of each token
  const auto positions = at::arange(tokens.ids.size(0)) - tokens.offsets.index_select(0, sentence);
  auto x = embed(tokens.ids, positions);
  for (auto& layer : layers_) x = layer->forward_bags(x, tokens.offsets);
  const auto sums = at::zeros({tokens.size(), sizes_.width}, x.options()).index_add_(0, sentence, x);
  const auto means = sums / lengths.unsqueeze(1);
  return means / means.norm(2, 1, /*keepdim=*/true);
}

std::vector<theory::HeadClasses> SentenceEncoderImpl::head_classes(const at::Tensor& ids) {
  std::vector<theory::HeadClasses> classes;
  auto x = embed(ids, at::arange(ids.size(1)));
  for (auto& layer : layers_) {
    classes.push_back(theory::classify_heads(layer->hopfield_association, {x, x}));
    x = layer->forward(x);
  }
  return classes;
}

}  // namespace hopfield::encoder
