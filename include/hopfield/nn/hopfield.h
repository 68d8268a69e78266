#pragma once

#include <hopfield/nn/association.h>

#include <torch/nn/module.h>
#include <torch/nn/modules/common.h>
#include <torch/nn/modules/container/any.h>

#include <functional>

namespace hopfield::nn {

/// Hopfield association of two sets, with projections into association space: a drop-in for attention whose queries are
/// updated before they read out.
///
///     Z = softmax(beta R W_Q W_K^T Y^T) P W_V      after update_steps_max updates of R W_Q
///
///     nn::Hopfield layer(nn::HopfieldOptions(64).num_heads(8).scaling(0.25).update_steps_max(3));
///     auto z = layer->forward(x);                            // [N, L, 64] to [N, L, 64]
///     auto a = layer->associate({stored, state, projection});
///
/// Source: Ramsauer et al. 2021, section 3, layer (1) "Hopfield".
class HopfieldImpl : public torch::nn::Cloneable<HopfieldImpl> {
 public:
  explicit HopfieldImpl(HopfieldOptions options);

  void reset() override;
  void reset_parameters();
  void pretty_print(std::ostream& stream) const override;

  /// Self-association: `input` is stored, state and projection at once.
  ///
  /// @param input                        [N, L, input_size]
  /// @param stored_pattern_padding_mask  [N, L] bool, true: not attended to
  /// @param association_mask             [L, L] or [N * num_heads, L, L], bool (true: excluded) or float (added)
  /// @return                             [N, L, output_size]
  at::Tensor forward(const at::Tensor& input, const at::Tensor& stored_pattern_padding_mask = {},
                     const at::Tensor& association_mask = {});

  /// Associates `state` with `stored` and reads out `projection`.
  AssociationResult associate(const AssociationInput& input, const AssociationMasks& masks = {},
                              const AssociationRequest& request = {});

  /// The same for ragged stored patterns and projections [total, size] with `offsets` [N + 1]; state [N or 1, L, size],
  /// batch first whatever the option says.
  AssociationResult associate_bags(const AssociationInput& input, const at::Tensor& offsets,
                                   const AssociationRequest& request = {});

  /// What associate() (with `offsets`: associate_bags()) gives for {instances, state, instances}, but without forming
  /// keys and values, which pays for few queries. For AssociationCoreImpl::absorbs() only.
  AssociationResult associate_instances(const at::Tensor& instances, const at::Tensor& state, const at::Tensor& offsets,
                                        const AssociationMasks& masks, const AssociationRequest& request);

  /// Final association [N, num_heads, L, S], without gradient. Appended patterns widen it.
  at::Tensor get_association_matrix(const AssociationInput& input, const AssociationMasks& masks = {});

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
  AssociationInput batch_first(const AssociationInput& input) const;
  AssociationInput normalize(const AssociationInput& input, const AssociationMasks& masks);
  bool projects_together(const AssociationInput& input, const AssociationMasks& masks) const;
  AssociationResult associate_with_itself(const at::Tensor& patterns, const AssociationMasks& masks,
                                          const AssociationRequest& request);
  at::Tensor activate(const at::Tensor& output) const { return activation_ ? activation_(output) : output; }

  std::function<at::Tensor(const at::Tensor&)> activation_;
};
TORCH_MODULE(Hopfield);

/// The options of a layer in one line, for pretty_print.
std::string describe(const AssociationSettings& settings);

}  // namespace hopfield::nn
