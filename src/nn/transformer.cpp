#include "nn/feed_forward.h"
#include <hopfield/nn/transformer.h>

#include <ATen/ATen.h>

#include <cmath>
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

torch::nn::LayerNorm layer_norm(int64_t size, const FeedForwardSettings& settings, const char* function) {
  const auto eps = settings.layer_norm_eps;
  TORCH_CHECK(eps >= 0 && std::isfinite(eps), function, ": expected layer_norm_eps to be finite and not negative, got ",
              eps);
  return torch::nn::LayerNorm(torch::nn::LayerNormOptions({size}).eps(eps));
}

/// x + part(x) with the norm where the settings want it.
template <typename Part>
at::Tensor residual(const at::Tensor& x, torch::nn::LayerNorm& norm, const FeedForwardSettings& settings,
                    const Part& part) {
  return settings.norm_first ? x + part(norm->forward(x)) : norm->forward(x + part(x));
}

void print(std::ostream& stream, const FeedForwardSettings& s) {
  stream << "dim_feedforward=" << s.dim_feedforward << ", dropout=" << s.dropout << ", activation=" << s.activation;
  if (s.layer_norm_eps != FeedForwardSettings().layer_norm_eps) stream << ", layer_norm_eps=" << s.layer_norm_eps;
  if (s.norm_first) stream << ", norm_first=true";
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
  norm_residual = register_module("norm_residual", layer_norm(size, options.settings(), kFunction));
  norm_output = register_module("norm_output", layer_norm(size, options.settings(), kFunction));
  feedforward_ = std::make_shared<FeedForward>(*this, size, options.settings(), kFunction);
}

void HopfieldEncoderLayerImpl::reset_parameters() {
  hopfield_association->reset_parameters();
  feedforward_->reset_parameters();
  norm_residual->reset_parameters();
  norm_output->reset_parameters();
}

template <typename Associate>
at::Tensor HopfieldEncoderLayerImpl::around(const at::Tensor& src, const Associate& associate) {
  const auto x = residual(src, norm_residual, options.settings(), [&](const at::Tensor& rows) {
    return dropout_hopfield_association->forward(associate(rows));
  });
  return residual(x, norm_output, options.settings(),
                  [&](const at::Tensor& rows) { return feedforward_->forward(rows); });
}

at::Tensor HopfieldEncoderLayerImpl::forward(const at::Tensor& src, const at::Tensor& src_mask,
                                             const at::Tensor& src_key_padding_mask, bool is_causal) {
  return around(src, [&](const at::Tensor& x) {
    return hopfield_association->associate({x, x}, {src_key_padding_mask, src_mask, {}, is_causal}).output;
  });
}

at::Tensor HopfieldEncoderLayerImpl::forward_bags(const at::Tensor& src, const at::Tensor& offsets, bool is_causal) {
  return around(src, [&](const at::Tensor& x) {
    return hopfield_association->associate_bags({x, x}, offsets, offsets, {{}, {}, {}, is_causal}).output;
  });
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
  norm_residual_self = register_module("norm_residual_self", layer_norm(size, options.settings(), kFunction));
  norm_residual_cross = register_module("norm_residual_cross", layer_norm(size, options.settings(), kFunction));
  norm_output = register_module("norm_output", layer_norm(size, options.settings(), kFunction));
  feedforward_ = std::make_shared<FeedForward>(*this, size, options.settings(), kFunction);
}

void HopfieldDecoderLayerImpl::reset_parameters() {
  hopfield_association_self->reset_parameters();
  hopfield_association_cross->reset_parameters();
  feedforward_->reset_parameters();
  for (auto* norm : {&norm_residual_self, &norm_residual_cross, &norm_output}) (*norm)->reset_parameters();
}

template <typename AssociateSelf, typename AssociateCross>
at::Tensor HopfieldDecoderLayerImpl::around(const at::Tensor& tgt, const AssociateSelf& associate_self,
                                            const AssociateCross& associate_cross) {
  auto x = residual(tgt, norm_residual_self, options.settings(), [&](const at::Tensor& rows) {
    return dropout_hopfield_association_self->forward(associate_self(rows));
  });
  x = residual(x, norm_residual_cross, options.settings(), [&](const at::Tensor& rows) {
    return dropout_hopfield_association_cross->forward(associate_cross(rows));
  });
  return residual(x, norm_output, options.settings(),
                  [&](const at::Tensor& rows) { return feedforward_->forward(rows); });
}

at::Tensor HopfieldDecoderLayerImpl::forward(const at::Tensor& tgt, const at::Tensor& memory,
                                             const at::Tensor& tgt_mask, const at::Tensor& memory_mask,
                                             const at::Tensor& tgt_key_padding_mask,
                                             const at::Tensor& memory_key_padding_mask, bool tgt_is_causal) {
  const auto own = [&](const at::Tensor& x) {
    return hopfield_association_self->associate({x, x}, {tgt_key_padding_mask, tgt_mask, {}, tgt_is_causal}).output;
  };
  const auto cross = [&](const at::Tensor& x) {
    return hopfield_association_cross->associate({x, memory}, {memory_key_padding_mask, memory_mask}).output;
  };
  return around(tgt, own, cross);
}

at::Tensor HopfieldDecoderLayerImpl::forward_bags(const at::Tensor& tgt, const at::Tensor& tgt_offsets,
                                                  const at::Tensor& memory, const at::Tensor& memory_offsets,
                                                  bool tgt_is_causal) {
  const auto own = [&](const at::Tensor& x) {
    return hopfield_association_self->associate_bags({x, x}, tgt_offsets, tgt_offsets, {{}, {}, {}, tgt_is_causal})
        .output;
  };
  const auto cross = [&](const at::Tensor& x) {
    return hopfield_association_cross->associate_bags({x, memory}, tgt_offsets, memory_offsets).output;
  };
  return around(tgt, own, cross);
}

void HopfieldDecoderLayerImpl::pretty_print(std::ostream& stream) const {
  stream << "hopfield::nn::HopfieldDecoderLayer(";
  print(stream, options.settings());
  stream << ")";
}

}  // namespace hopfield::nn
