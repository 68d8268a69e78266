#pragma once

#include <hopfield/nn/association.h>

#include <torch/nn/module.h>
#include <torch/nn/modules/common.h>
#include <torch/nn/modules/container/any.h>
#include <torch/nn/modules/normalization.h>

#include <functional>

namespace hopfield::nn {

/// Hopfield association of two sets, with projections into association space: a drop-in for attention whose queries are
/// updated before they read out.
///
///     Z = softmax(beta R W_Q W_K^T Y^T) P W_V      after update_steps_max updates of R W_Q
///
///     nn::Hopfield layer(nn::HopfieldOptions(64).num_heads(8).scaling(0.25).update_steps_max(3));
///     auto z = layer->forward(x);                            // [N, L, 64] to [N, L, 64]
///     auto a = layer->associate({state, stored, projection});   // sets of their own
///
/// The option separation puts sparsemax, entmax or softmax1 in the place of softmax.
///
/// Source: Ramsauer et al. 2021, section 3, layer (1) "Hopfield".
class HopfieldImpl : public torch::nn::Cloneable<HopfieldImpl> {
 public:
  explicit HopfieldImpl(HopfieldOptions options);

  void reset() override;
  void reset_parameters();
  void pretty_print(std::ostream& stream) const override;

  /// Self-association: `input` is state, stored and projection at once. Sets that differ go to associate().
  ///
  /// @param input             [N, L, input_size], or one sequence [L, input_size]
  /// @param padding_mask      [N, L] (one sequence: [L]) bool, true: not attended to
  /// @param association_mask  [L, L] or [N * num_heads, L, L], bool (true: excluded) or float (added)
  /// @return                  [N, L, output_size], or [L, output_size]
  at::Tensor forward(const at::Tensor& input, const at::Tensor& padding_mask = {},
                     const at::Tensor& association_mask = {});

  /// Associates `state` with `stored` and reads out `projection`. Each may have a width of its own, which the options
  /// input_size, stored_pattern_size and pattern_projection_size name. Where the projection is the stored patterns, as
  /// it is by default, few queries are served by pool(), which never forms keys and values.
  AssociationResult associate(const AssociationInput& input, const Masks& masks = {},
                              const AssociationRequest& request = {});

  /// The same for ragged patterns: bags of different sizes one after the other, without padding, batch first whatever
  /// the option says. Sequences that attend to themselves: associate_bags({x, x}, offsets, offsets).
  ///
  /// @param input          stored and projection [total, size]; state [total_L, size], or without `state_offsets` dense
  ///                       [N or 1, L, size]
  /// @param state_offsets  [N + 1] integers: bag n has the queries state_offsets[n] .. state_offsets[n + 1]
  /// @param offsets        [N + 1] integers, the same for stored and projection
  /// @param masks          the key bias [total] alone
  /// @return               output [total_L, output_size], or [N, L, output_size]
  AssociationResult associate_bags(const AssociationInput& input, const at::Tensor& state_offsets,
                                   const at::Tensor& offsets, const Masks& masks = {},
                                   const AssociationRequest& request = {});

  /// Final association [N, num_heads, L, S], without gradient. Appended patterns widen it.
  at::Tensor get_association_matrix(const AssociationInput& input, const Masks& masks = {});

  /// Projected values [N, num_heads, S, pattern_size], without gradient.
  at::Tensor get_projected_pattern_matrix(const AssociationInput& input);

  /// See AssociationCoreImpl::set_generator().
  void set_generator(at::Generator generator) { association_core->set_generator(std::move(generator)); }

  HopfieldOptions options;
  AssociationCore association_core{nullptr};
  torch::nn::LayerNorm norm_stored_pattern{nullptr}, norm_state_pattern{nullptr}, norm_pattern_projection{nullptr};

 protected:
  FORWARD_HAS_DEFAULT_ARGS({1, torch::nn::AnyValue(at::Tensor())}, {2, torch::nn::AnyValue(at::Tensor())})

 private:
  std::function<at::Tensor(const at::Tensor&)> activation_;
};
TORCH_MODULE(Hopfield);

}  // namespace hopfield::nn
