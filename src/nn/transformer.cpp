#include "nn/feed_forward.h"
#include <hopfield/nn/transformer.h>

#include <ATen/ATen.h>

#include <ostream>

namespace hopfield::nn {
namespace {

/// Width of the residual stream, which the association has to preserve.
int64_t residual_size(const HopfieldOptions& association, const char* function) {
  const auto& s = association.settings();
  TORCH_CHECK(s.input_size, function, ": expected the association to have an input_size");
  TORCH_CHECK(!s.disable_out_projection && s.output_size.value_or(*s.input_size) == *s.input_size, function,
              ": expected the association's output_size to equal its input_size ", *s.input_size,
              ": its output is added to its input");
  return *s.input_size;
}

torch::nn::LayerNorm layer_norm(int64_t size) { return torch::nn::LayerNorm(torch::nn::LayerNormOptions({size})); }

void print(std::ostream& stream, const FeedForwardSettings& s) {
  stream << "dim_feedforward=" << s.dim_feedforward << ", dropout=" << s.dropout << ", activation=" << s.activation;
}

}  // namespace

HopfieldEncoderLayerImpl::HopfieldEncoderLayerImpl(HopfieldEncoderLayerOptions given) : options(std::move(given)) {
  reset();
}

void HopfieldEncoderLayerImpl::reset() {
  constexpr auto kFunction = "hopfield::nn::HopfieldEncoderLayer";
  const auto size = residual_size(options.association(), kFunction);
  hopfield_association = register_module("hopfield_association", Hopfield(options.association()));
  dropout_hopfield_association = register_module("dropout_hopfield_association", torch::nn::Dropout(options.dropout()));
  norm_residual = register_module("norm_residual", layer_norm(size));
  norm_output = register_module("norm_output", layer_norm(size));
  feedforward_ = std::make_shared<FeedForward>(*this, size, options.settings(), kFunction);
}

void HopfieldEncoderLayerImpl::reset_parameters() {
  hopfield_association->reset_parameters();
  feedforward_->reset_parameters();
  norm_residual->reset_parameters();
  norm_output->reset_parameters();
}

at::Tensor HopfieldEncoderLayerImpl::forward(const at::Tensor& src, const at::Tensor& src_mask,
                                             const at::Tensor& src_key_padding_mask) {
  const auto associated = hopfield_association->forward(src, src_key_padding_mask, src_mask);
  const auto x = norm_residual->forward(src + dropout_hopfield_association->forward(associated));
  return norm_output->forward(x + feedforward_->forward(x));
}

void HopfieldEncoderLayerImpl::pretty_print(std::ostream& stream) const {
  stream << "hopfield::nn::HopfieldEncoderLayer(";
  print(stream, options.settings());
  stream << ")";
}

HopfieldDecoderLayerImpl::HopfieldDecoderLayerImpl(HopfieldDecoderLayerOptions given) : options(std::move(given)) {
  reset();
}

void HopfieldDecoderLayerImpl::reset() {
  constexpr auto kFunction = "hopfield::nn::HopfieldDecoderLayer";
  const auto size = residual_size(options.association_self(), kFunction);
  const auto cross_size = residual_size(options.association_cross(), kFunction);
  TORCH_CHECK(size == cross_size, kFunction, ": expected both associations to have one input_size, got ", size, " and ",
              cross_size);
  hopfield_association_self = register_module("hopfield_association_self", Hopfield(options.association_self()));
  hopfield_association_cross = register_module("hopfield_association_cross", Hopfield(options.association_cross()));
  dropout_hopfield_association_self =
      register_module("dropout_hopfield_association_self", torch::nn::Dropout(options.dropout()));
  dropout_hopfield_association_cross =
      register_module("dropout_hopfield_association_cross", torch::nn::Dropout(options.dropout()));
  norm_residual_self = register_module("norm_residual_self", layer_norm(size));
  norm_residual_cross = register_module("norm_residual_cross", layer_norm(size));
  norm_output = register_module("norm_output", layer_norm(size));
  feedforward_ = std::make_shared<FeedForward>(*this, size, options.settings(), kFunction);
}

void HopfieldDecoderLayerImpl::reset_parameters() {
  hopfield_association_self->reset_parameters();
  hopfield_association_cross->reset_parameters();
  feedforward_->reset_parameters();
  for (auto* norm : {&norm_residual_self, &norm_residual_cross, &norm_output}) (*norm)->reset_parameters();
}

at::Tensor HopfieldDecoderLayerImpl::forward(const at::Tensor& tgt, const at::Tensor& memory,
                                             const at::Tensor& tgt_mask, const at::Tensor& memory_mask,
                                             const at::Tensor& tgt_key_padding_mask,
                                             const at::Tensor& memory_key_padding_mask) {
  const auto own = hopfield_association_self->forward(tgt, tgt_key_padding_mask, tgt_mask);
  auto x = norm_residual_self->forward(tgt + dropout_hopfield_association_self->forward(own));
  const auto crossed =
      hopfield_association_cross->associate({x, memory}, {memory_key_padding_mask, memory_mask}).output;
  x = norm_residual_cross->forward(x + dropout_hopfield_association_cross->forward(crossed));
  return norm_output->forward(x + feedforward_->forward(x));
}

void HopfieldDecoderLayerImpl::pretty_print(std::ostream& stream) const {
  stream << "hopfield::nn::HopfieldDecoderLayer(";
  print(stream, options.settings());
  stream << ")";
}

}  // namespace hopfield::nn
