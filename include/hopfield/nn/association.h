#pragma once

#include <hopfield/nn/options.h>
#include <hopfield/ops/retrieve.h>

#include <torch/nn/cloneable.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/pimpl.h>

#include <cstdint>
#include <optional>
#include <ostream>
#include <utility>

namespace hopfield::nn {

/// The three roles of patterns, in the order of attention's query, key and value. The shapes are those of batch_first.
/// A tensor whose batch size is 1 is shared by the batch. Where all three lack the batch dimension they are one
/// sequence, and the masks and the results lack it too.
struct AssociationInput {
  at::Tensor state = {};       ///< queries [N, L, input_size]
  at::Tensor stored = {};      ///< keys [N, S, stored_pattern_size]
  at::Tensor projection = {};  ///< values [N, S, pattern_projection_size]; undefined: stored
};

/// What to return beside the output.
class AssociationRequest {
 public:
  AssociationRequest& with_energy(bool wanted = true) {
    energy_ = wanted;
    return *this;
  }
  AssociationRequest& with_association(bool wanted = true) {
    association_ = wanted;
    return *this;
  }
  bool energy() const { return energy_; }
  bool association() const { return association_; }

 private:
  bool energy_ = false;
  bool association_ = false;
};

/// What retrieve() gives, with the layer's output in place of the op's. Without a batch, results lack N. Of ragged
/// queries they have [total_L, H] in place of [N, H, L].
struct AssociationResult : RetrieveResult {
  // output: [N, L, output_size], or [L, N, output_size] if not batch_first; of ragged queries [total_L, output_size].
  // state: final states in association space [N, H, L, hidden_size].
  // logsumexp, steps, residual and converged: [N, H, L]. energy: the same with_energy().
  // scores: beta xi k, masked [N, H, L, S]; ragged [total, H, L]; with_association().
  at::Tensor association;  ///< softmax of the scores, or another separation; same shape, with_association()
};

/// Projections, heads, retrieval and output projection: the core that the three layers share, and the owner of their
/// parameters. Users reach it as `layer->association_core`.
///
/// Source: Ramsauer et al. 2021, section 3 and equation (10).
class AssociationCoreImpl : public torch::nn::Cloneable<AssociationCoreImpl> {
 public:
  explicit AssociationCoreImpl(AssociationSettings settings);

  /// @throws c10::Error for options that contradict each other.
  void reset() override;
  /// Draws weights and bias patterns from normal(0, 0.02), and sets biases to 0 and the scaling to what the options
  /// say.
  void reset_parameters();
  void pretty_print(std::ostream& stream) const override;

  /// CPU generator that draws the dropout masks' seeds; undefined: LibTorch's default one. A clone gets a copy of it.
  void set_generator(at::Generator generator) { generator_ = std::move(generator); }
  /// A copy, or undefined.
  at::Generator copy_generator() const { return generator_.defined() ? generator_.clone() : at::Generator(); }

  /// Width of the patterns in association space. An all_static() core has none: the patterns decide.
  std::optional<int64_t> hidden_size() const;
  /// Whether the three static flags are set and nothing else touches the patterns.
  bool all_static() const;
  /// The parameter, or else the option, or else its default: [] or [num_heads].
  at::Tensor beta() const;

  AssociationSettings settings;

  torch::Tensor in_proj_weight, q_proj_weight, k_proj_weight, v_proj_weight, in_proj_bias;
  torch::Tensor p_norm_weight, p_norm_bias;
  torch::Tensor bias_k, bias_v;
  torch::Tensor scaling;
  torch::nn::Linear out_proj{nullptr};

 private:
  // The op draws from the generator itself, not from a copy.
  friend RetrieveOptions retrieve_options(const AssociationCoreImpl& core, const AssociationRequest& request);

  at::Generator generator_;
};
TORCH_MODULE(AssociationCore);

}  // namespace hopfield::nn
