#pragma once

#include <hopfield/nn/hopfield.h>
#include <hopfield/ops/option_macro.h>

#include <torch/nn/modules/dropout.h>

#include <memory>

namespace hopfield::nn {

/// Settings of the feed-forward half that both transformer layers have. Both normalise behind each residual connection
/// (post-norm).
struct FeedForwardSettings {
  int64_t dim_feedforward = 2048;
  double dropout = 0.1;
  /// Elementwise function of the feed-forward layer, by its name among LibTorch's operators.
  std::string activation = "relu";
};

template <typename D>
class FeedForwardOptions {
  using Derived = D;
  using Settings = FeedForwardSettings;

 public:
  HOPFIELD_OPTION(dim_feedforward)
  HOPFIELD_OPTION(dropout)
  HOPFIELD_OPTION(activation)
  const Settings& settings() const { return settings_; }

 protected:
  Settings settings_;
};

class HopfieldEncoderLayerOptions : public FeedForwardOptions<HopfieldEncoderLayerOptions> {
 public:
  HopfieldEncoderLayerOptions(HopfieldOptions association) : association_(std::move(association)) {}  // NOLINT
  const HopfieldOptions& association() const { return association_; }

 private:
  HopfieldOptions association_;
};

class HopfieldDecoderLayerOptions : public FeedForwardOptions<HopfieldDecoderLayerOptions> {
 public:
  HopfieldDecoderLayerOptions(HopfieldOptions self, HopfieldOptions cross)
      : association_self_(std::move(self)), association_cross_(std::move(cross)) {}
  const HopfieldOptions& association_self() const { return association_self_; }
  const HopfieldOptions& association_cross() const { return association_cross_; }

 private:
  HopfieldOptions association_self_, association_cross_;
};

class FeedForward;  // defined in src/nn/feed_forward.h

/// Transformer encoder layer with a Hopfield association in place of self-attention.
class HopfieldEncoderLayerImpl : public torch::nn::Cloneable<HopfieldEncoderLayerImpl> {
 public:
  explicit HopfieldEncoderLayerImpl(HopfieldEncoderLayerOptions options);

  void reset() override;
  void reset_parameters();
  void pretty_print(std::ostream& stream) const override;

  /// @param src                   [N, L, input_size], or one sequence [L, input_size]
  /// @param src_mask              [L, L] or [N * num_heads, L, L]
  /// @param src_key_padding_mask  [N, L] bool, true: padding
  /// @return                      like src
  at::Tensor forward(const at::Tensor& src, const at::Tensor& src_mask = {},
                     const at::Tensor& src_key_padding_mask = {});

  HopfieldEncoderLayerOptions options;
  Hopfield hopfield_association{nullptr};
  torch::nn::LayerNorm norm_residual{nullptr}, norm_output{nullptr};
  torch::nn::Dropout dropout_hopfield_association{nullptr};

 protected:
  FORWARD_HAS_DEFAULT_ARGS({1, torch::nn::AnyValue(at::Tensor())}, {2, torch::nn::AnyValue(at::Tensor())})

 private:
  std::shared_ptr<FeedForward> feedforward_;
};
TORCH_MODULE(HopfieldEncoderLayer);

/// Transformer decoder layer with Hopfield associations in place of self- and cross-attention.
class HopfieldDecoderLayerImpl : public torch::nn::Cloneable<HopfieldDecoderLayerImpl> {
 public:
  explicit HopfieldDecoderLayerImpl(HopfieldDecoderLayerOptions options);

  void reset() override;
  void reset_parameters();
  void pretty_print(std::ostream& stream) const override;

  /// @param tgt     [N, L, input_size], or one sequence [L, input_size]
  /// @param memory  [N, S, stored_pattern_size of the cross association], or [S, ..] like tgt
  /// @return        like tgt
  at::Tensor forward(const at::Tensor& tgt, const at::Tensor& memory, const at::Tensor& tgt_mask = {},
                     const at::Tensor& memory_mask = {}, const at::Tensor& tgt_key_padding_mask = {},
                     const at::Tensor& memory_key_padding_mask = {});

  HopfieldDecoderLayerOptions options;
  Hopfield hopfield_association_self{nullptr}, hopfield_association_cross{nullptr};
  torch::nn::LayerNorm norm_residual_self{nullptr}, norm_residual_cross{nullptr}, norm_output{nullptr};
  torch::nn::Dropout dropout_hopfield_association_self{nullptr}, dropout_hopfield_association_cross{nullptr};

 protected:
  FORWARD_HAS_DEFAULT_ARGS({2, torch::nn::AnyValue(at::Tensor())}, {3, torch::nn::AnyValue(at::Tensor())},
                           {4, torch::nn::AnyValue(at::Tensor())}, {5, torch::nn::AnyValue(at::Tensor())})

 private:
  std::shared_ptr<FeedForward> feedforward_;
};
TORCH_MODULE(HopfieldDecoderLayer);

}  // namespace hopfield::nn

#undef HOPFIELD_OPTION
