#pragma once

#include <hopfield/nn/options.h>
#include <hopfield/ops/pool.h>

#include <torch/nn/cloneable.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/modules/normalization.h>
#include <torch/nn/pimpl.h>

#include <optional>
#include <string>
#include <vector>

namespace hopfield::nn {

/// The three roles of patterns, in the order of attention's query, key and value. Shapes with batch_first; a batch size
/// of 1 is shared by the batch. All three without their first dimension are one sequence without a batch, and so are
/// then the results and the masks.
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

/// Without a batch, results lack N. Of ragged queries they have [total_L, H] in place of [N, H, L].
struct AssociationResult {
  at::Tensor output;       ///< [N, L, output_size], or [L, N, output_size] if not batch_first
  at::Tensor state;        ///< final states in association space [N, H, L, hidden_size]
  at::Tensor logsumexp;    ///< of the final scores [N, H, L]
  at::Tensor steps;        ///< updates made [N, H, L] int64
  at::Tensor residual;     ///< what the stop rule compared last [N, H, L]
  at::Tensor converged;    ///< [N, H, L] bool
  at::Tensor energy;       ///< [N, H, L] with_energy()
  at::Tensor scores;       ///< beta xi k, masked [N, H, L, S]; ragged [total, H, L] with_association()
  at::Tensor association;  ///< softmax of the scores, same shape, with_association()
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
  /// Weights and bias patterns normal(0, 0.02), biases 0, scaling as in the options.
  void reset_parameters();
  void pretty_print(std::ostream& stream) const override;

  /// Where bags begin among ragged patterns, [N + 1] integers; undefined: dense patterns.
  struct Offsets {
    at::Tensor state, stored;
  };

  /// Throws unless the patterns have the number of dimensions, the sizes and the dtype that the options ask for.
  void check_patterns(const AssociationInput& patterns, const Offsets& offsets) const;

  /// @param patterns  checked, normalised, batch first, or ragged [total, size]
  AssociationResult forward(const AssociationInput& patterns, const Offsets& offsets, const Masks& masks,
                            const AssociationRequest& request);

  /// Whether `queries` few queries on raw instances are served by pool(), which never forms keys and values: by the
  /// options' cost, the instances' type and device alone.
  bool absorbs(int64_t queries, const at::Tensor& instances) const;

  /// LayerNorms that have the same core, by their parameters: undefined where there are none.
  struct InputNorms {
    struct Affine {
      at::Tensor weight, bias;
    };
    std::optional<double> eps;
    Affine state, stored, projection;
  };

  /// What forward() gives for patterns {instances, state, instances}, where absorbs(). Instances come before their
  /// norms, [N, S, size] or with `offsets` [total, size].
  AssociationResult forward_absorbed(const at::Tensor& instances, const at::Tensor& state, const at::Tensor& offsets,
                                     const Masks& masks, const InputNorms& norms, const AssociationRequest& request);

  /// Whether one product projects patterns that are stored, state and projection at once.
  bool projects_together() const;
  /// What forward() gives for {patterns, patterns, patterns} and the norms' affine parts, where projects_together().
  /// Patterns come without those parts.
  AssociationResult forward_together(const at::Tensor& patterns, const InputNorms& norms, const Masks& masks,
                                     const AssociationRequest& request);

  /// Projected values [N or 1, heads, S, pattern_size], appended patterns included.
  at::Tensor projected_patterns(const at::Tensor& projection);

  /// CPU generator that draws the dropout masks' seeds; undefined: LibTorch's default one. A clone gets a copy of it.
  void set_generator(at::Generator generator) { generator_ = std::move(generator); }
  /// A copy, or undefined.
  at::Generator copy_generator() const { return generator_.defined() ? generator_.clone() : at::Generator(); }

  /// Width of the patterns in association space; none when both state and stored are static: the data decide.
  std::optional<int64_t> hidden_size() const { return sizes_.hidden; }
  /// Whether the three static flags are set and nothing else touches the patterns.
  bool all_static() const { return sizes_.all_static; }
  /// 1 / sqrt(hidden_size), or the option, or the parameter: [] or [num_heads].
  at::Tensor beta() const;

  AssociationSettings settings;

  torch::Tensor in_proj_weight, q_proj_weight, k_proj_weight, v_proj_weight, in_proj_bias;
  torch::Tensor p_norm_weight, p_norm_bias;
  torch::Tensor bias_k, bias_v;
  torch::Tensor scaling;
  torch::nn::Linear out_proj{nullptr};

 private:
  struct Sizes {
    bool all_static = false;
    bool fused_weights = false;              // one in_proj_weight instead of three
    std::optional<int64_t> hidden, pattern;  // per head
    int64_t state = 0, stored = 0, projection = 0, output = 0;
  };
  /// Weight and bias of one input projection; undefined weight: static.
  struct Projection {
    at::Tensor weight, bias;
  };

  /// Patterns in association space [N or 1, heads or 1, rows, width], ragged [total, heads or 1, width].
  struct Projected {
    at::Tensor state, stored, values;
  };

  static Sizes resolve(const AssociationSettings& settings);
  void register_weights();
  Projection state_projection() const;
  Projection stored_projection() const;
  Projection value_projection() const;
  at::Tensor project(const at::Tensor& patterns, const Projection& projection) const;
  at::Tensor project_state(const at::Tensor& state) const;
  at::Tensor project_values(const at::Tensor& projection) const;
  at::Tensor normalize(const at::Tensor& heads) const;
  /// A ragged key bias [total] with zeros for the rows appended to each bag.
  at::Tensor append_to_bias(const at::Tensor& key_bias, const std::vector<int64_t>& bag_sizes) const;
  at::Tensor append(const at::Tensor& patterns, const at::Tensor& bias_row,
                    const std::vector<int64_t>& bag_sizes) const;
  int64_t appended_rows() const;
  int64_t batch_size(const AssociationInput& patterns, const Offsets& offsets) const;
  double default_beta() const;
  RetrieveInput retrieve_input(const Projected& projected, const AssociationInput& patterns, const Offsets& offsets,
                               const Masks& masks) const;
  AssociationResult associate(const Projected& projected, const AssociationInput& patterns, const Offsets& offsets,
                              const Masks& masks, const AssociationRequest& request);

  /// From merged heads [N, L, heads * pattern_size] and what a retrieval gave; ragged scores, of `total` patterns, lose
  /// the `appended` rows behind each bag.
  AssociationResult finish(const at::Tensor& merged, const RetrieveResult& retrieved, const at::Tensor& offsets,
                           int64_t total, int64_t appended);

  Sizes sizes_;
  at::Generator generator_;
};
TORCH_MODULE(AssociationCore);

}  // namespace hopfield::nn
