#pragma once

#include <hopfield/nn/hopfield.h>

namespace hopfield::nn {

/// Retrieves from stored patterns that belong to the layer: trained prototypes, or a whole training set as memory.
///
///     nn::HopfieldLayer lookup(nn::HopfieldLayerOptions(64).quantity(1024));
///     auto z = lookup->forward(x);                     // [N, L, 64] to [N, L, 64]
///
/// Source: Ramsauer et al. 2021, section 3, layer (3) "HopfieldLayer".
class HopfieldLayerImpl : public torch::nn::Cloneable<HopfieldLayerImpl> {
 public:
  explicit HopfieldLayerImpl(HopfieldLayerOptions options);

  void reset() override;
  void reset_parameters();
  void pretty_print(std::ostream& stream) const override;

  /// @param input             states [N, L, input_size], or without a batch [L, input_size]
  /// @param padding_mask      [N, quantity] (without a batch: [quantity]) bool, true: not attended to
  /// @param association_mask  [L, quantity] or [N * num_heads, L, quantity], bool or float
  /// @return                  [N, L, output_size], or [L, output_size]
  at::Tensor forward(const at::Tensor& input, const at::Tensor& padding_mask = {},
                     const at::Tensor& association_mask = {});

  AssociationResult associate(const at::Tensor& state, const Masks& masks = {}, const AssociationRequest& request = {});

  /// Stores data: `patterns` become the lookup weights and `targets`, if given, the target weights (which
  /// lookup_weights_as_separated provides). Any number of rows; quantity follows. Whether they are trained from there
  /// on is what `trainable` and `lookup_targets_as_trainable` say; an optimizer made before has to be made again.
  ///
  /// @param patterns  [quantity, stored_pattern_size (hidden_size if static)]
  /// @param targets   [quantity, pattern_projection_size]
  void set_patterns(const at::Tensor& patterns, const at::Tensor& targets = {});

  /// Final association [N, num_heads, L, quantity], without gradient.
  at::Tensor get_association_matrix(const at::Tensor& state, const Masks& masks = {});
  /// Projected values [N, num_heads, quantity, pattern_size], without gradient.
  at::Tensor get_projected_pattern_matrix(const at::Tensor& state);

  void set_generator(at::Generator generator) { hopfield->set_generator(std::move(generator)); }

  HopfieldLayerOptions options;
  Hopfield hopfield{nullptr};
  /// [1, quantity, width], or [quantity, 1, width] if not batch_first.
  torch::Tensor lookup_weights, target_weights;

 protected:
  FORWARD_HAS_DEFAULT_ARGS({1, torch::nn::AnyValue(at::Tensor())}, {2, torch::nn::AnyValue(at::Tensor())})
};
TORCH_MODULE(HopfieldLayer);

}  // namespace hopfield::nn
