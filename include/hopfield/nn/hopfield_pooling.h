#pragma once

#include <hopfield/core/bags.h>
#include <hopfield/nn/hopfield.h>

#include <vector>

namespace hopfield::nn {

/// Stored patterns of a bag and, where they differ, what is read out. An undefined projection: the stored patterns.
struct PoolingInput {
  at::Tensor stored = {};      ///< [N, S, stored_pattern_size], or one bag [S, stored_pattern_size]
  at::Tensor projection = {};  ///< [N, S, pattern_projection_size], or [S, pattern_projection_size]
};

/// How much each instance of a batch of bags counts.
struct InstanceScores {
  at::Tensor raw;      ///< beta xi_T k [total, heads, quantity]
  at::Tensor weights;  ///< their softmax, or another separation, within each bag [total, heads, quantity]
};

/// Pools a bag of any size into `quantity` vectors: trained state patterns retrieve from its instances.
///
///     nn::HopfieldPooling pool(nn::HopfieldPoolingOptions(256).num_heads(8).quantity(1));
///     auto b = pool->forward(padded, padding_mask);     // [N, S, 256] to [N, quantity * output_size]
///     auto c = pool->pool_bags(bag_batch);              // the same for ragged bags
///
/// Source: Ramsauer et al. 2021, section 3, layer (2) "HopfieldPooling".
class HopfieldPoolingImpl : public torch::nn::Cloneable<HopfieldPoolingImpl> {
 public:
  explicit HopfieldPoolingImpl(HopfieldPoolingOptions options);

  void reset() override;
  void reset_parameters();
  void pretty_print(std::ostream& stream) const override;

  /// @param input             [N, S, input_size], or one bag [S, input_size]
  /// @param padding_mask      [N, S] (one bag: [S]) bool, true: padding
  /// @param association_mask  [quantity, S] or [N * num_heads, quantity, S], bool or float
  /// @return                  [N, quantity * output_size], or [quantity * output_size]
  at::Tensor forward(const at::Tensor& input, const at::Tensor& padding_mask = {},
                     const at::Tensor& association_mask = {});

  /// Pools padded bags whose stored patterns and values may differ. The result's output is [N, quantity * output_size].
  AssociationResult associate(const PoolingInput& input, const Masks& masks = {},
                              const AssociationRequest& request = {});

  /// Pools ragged bags. `projection` [total, pattern_projection_size]; undefined: the instances themselves.
  /// The heads of an empty bag give zeros, so that its output is the bias of the output projection.
  at::Tensor pool_bags(const BagBatch& bags, const at::Tensor& projection = {});
  /// The same for bags that are not in one batch yet. Each is a Bag, or a tensor [instances, features].
  template <typename Element>
  at::Tensor pool_bags(const std::vector<Element>& bags) {
    return pool_bags(BagBatch::from(bags));
  }
  /// @param masks  the key bias [total] alone
  AssociationResult associate_bags(const BagBatch& bags, const at::Tensor& projection = {}, const Masks& masks = {},
                                   const AssociationRequest& request = {});

  /// How much each instance counts for its bag, without gradient.
  InstanceScores instance_scores(const BagBatch& bags, const at::Tensor& projection = {});

  /// Final association [N, num_heads, quantity, S], without gradient.
  at::Tensor get_association_matrix(const PoolingInput& input, const Masks& masks = {});
  /// Projected values [N, num_heads, S, pattern_size], without gradient.
  at::Tensor get_projected_pattern_matrix(const PoolingInput& input);

  void set_generator(at::Generator generator) { hopfield->set_generator(std::move(generator)); }

  HopfieldPoolingOptions options;
  Hopfield hopfield{nullptr};
  /// State patterns [1, quantity, input_size], or [quantity, 1, input_size] if not batch_first; hidden_size if static.
  torch::Tensor pooling_weights;

 protected:
  FORWARD_HAS_DEFAULT_ARGS({1, torch::nn::AnyValue(at::Tensor())}, {2, torch::nn::AnyValue(at::Tensor())})
};
TORCH_MODULE(HopfieldPooling);

}  // namespace hopfield::nn
