#pragma once

#include <hopfield/nn/hopfield.h>
#include <hopfield/ops/option_macro.h>

#include <torch/nn/modules/dropout.h>

#include <memory>

namespace hopfield::nn {

/// Settings that both transformer layers have: of the feed-forward half, and of the norms.
struct FeedForwardSettings {
  int64_t dim_feedforward = 2048;
  double dropout = 0.1;
  /// Elementwise function of the feed-forward layer, by its name among LibTorch's operators: relu, tanh, gelu (with the
  /// error function). gelu_tanh is the approximation of gelu by tanh.
  std::string activation = "relu";
  /// Of the norms beside the residual connections. Those within the association have options of their own.
  double layer_norm_eps = 1e-5;
  /// Whether the norms are before the association and the feed-forward half (pre-norm), or behind each residual
  /// connection (post-norm).
  bool norm_first = false;
};

template <typename D>
class FeedForwardOptions {
  using Derived = D;
  using Settings = FeedForwardSettings;

 public:
  HOPFIELD_OPTION(dim_feedforward)
  HOPFIELD_OPTION(dropout)
  HOPFIELD_OPTION(activation)
  HOPFIELD_OPTION(layer_norm_eps)
  HOPFIELD_OPTION(norm_first)
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

/// Transformer encoder layer with a Hopfield association in place of self-attention. Whether the batch comes first is
/// an option of the association.
///
///     nn::HopfieldEncoderLayer layer(nn::HopfieldEncoderLayerOptions(
///         nn::HopfieldOptions(384).num_heads(12).normalize_inputs(false)).dim_feedforward(1536).activation("gelu"));
///     auto y = layer->forward(x);                        // [N, L, 384] to [N, L, 384]
///     auto z = layer->forward_bags(sentences, offsets);  // sequences of different lengths, one after the other
class HopfieldEncoderLayerImpl : public torch::nn::Cloneable<HopfieldEncoderLayerImpl> {
 public:
  explicit HopfieldEncoderLayerImpl(HopfieldEncoderLayerOptions options);

  void reset() override;
  void reset_parameters();
  void pretty_print(std::ostream& stream) const override;

  /// @param src                   [N, L, input_size], or one sequence [L, input_size]
  /// @param src_mask              [L, L] or [N * num_heads, L, L]
  /// @param src_key_padding_mask  [N, L] bool, true: padding
  /// @param is_causal             whether a row sees itself and the rows before it only
  /// @return                      like src
  at::Tensor forward(const at::Tensor& src, const at::Tensor& src_mask = {},
                     const at::Tensor& src_key_padding_mask = {}, bool is_causal = false);

  /// The same for sequences of different lengths, without padding.
  ///
  /// @param src      [total, input_size]
  /// @param offsets  [N + 1] integers: sequence n owns the rows offsets[n] .. offsets[n + 1]
  /// @return         [total, input_size]
  at::Tensor forward_bags(const at::Tensor& src, const at::Tensor& offsets, bool is_causal = false);

  HopfieldEncoderLayerOptions options;
  Hopfield hopfield_association{nullptr};
  torch::nn::LayerNorm norm_residual{nullptr}, norm_output{nullptr};
  torch::nn::Dropout dropout_hopfield_association{nullptr};

 protected:
  FORWARD_HAS_DEFAULT_ARGS({1, torch::nn::AnyValue(at::Tensor())}, {2, torch::nn::AnyValue(at::Tensor())},
                           {3, torch::nn::AnyValue(false)})

 private:
  template <typename Associate>
  at::Tensor around(const at::Tensor& src, const Associate& associate);

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
  /// @param tgt_is_causal  whether a row of tgt sees itself and the rows before it only
  /// @return        like tgt
  at::Tensor forward(const at::Tensor& tgt, const at::Tensor& memory, const at::Tensor& tgt_mask = {},
                     const at::Tensor& memory_mask = {}, const at::Tensor& tgt_key_padding_mask = {},
                     const at::Tensor& memory_key_padding_mask = {}, bool tgt_is_causal = false);

  /// The same for sequences of different lengths, without padding.
  ///
  /// @param tgt             [total_L, input_size]
  /// @param tgt_offsets     [N + 1] integers: sequence n owns the rows tgt_offsets[n] .. tgt_offsets[n + 1]
  /// @param memory          [total_S, stored_pattern_size of the cross association]
  /// @param memory_offsets  [N + 1] integers
  /// @return                [total_L, input_size]
  at::Tensor forward_bags(const at::Tensor& tgt, const at::Tensor& tgt_offsets, const at::Tensor& memory,
                          const at::Tensor& memory_offsets, bool tgt_is_causal = false);

  HopfieldDecoderLayerOptions options;
  Hopfield hopfield_association_self{nullptr}, hopfield_association_cross{nullptr};
  torch::nn::LayerNorm norm_residual_self{nullptr}, norm_residual_cross{nullptr}, norm_output{nullptr};
  torch::nn::Dropout dropout_hopfield_association_self{nullptr}, dropout_hopfield_association_cross{nullptr};

 protected:
  FORWARD_HAS_DEFAULT_ARGS({2, torch::nn::AnyValue(at::Tensor())}, {3, torch::nn::AnyValue(at::Tensor())},
                           {4, torch::nn::AnyValue(at::Tensor())}, {5, torch::nn::AnyValue(at::Tensor())},
                           {6, torch::nn::AnyValue(false)})

 private:
  template <typename AssociateSelf, typename AssociateCross>
  at::Tensor around(const at::Tensor& tgt, const AssociateSelf& associate_self, const AssociateCross& associate_cross);

  std::shared_ptr<FeedForward> feedforward_;
};
TORCH_MODULE(HopfieldDecoderLayer);

}  // namespace hopfield::nn

#undef HOPFIELD_OPTION
