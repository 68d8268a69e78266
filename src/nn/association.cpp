#include "nn/association_internal.h"
#include <hopfield/core/bags.h>
#include <hopfield/nn/association.h>

#include <ATen/ATen.h>
#include <torch/nn/init.h>

#include <cmath>
#include <ostream>

namespace hopfield::nn {
namespace {

/// [N or 1, rows, heads * d] to [N or 1, heads, rows, d]; ragged [total, heads * d] to [total, heads, d].
at::Tensor split_heads(const at::Tensor& projected, int64_t heads) {
  auto shape = projected.sizes().vec();
  shape.back() /= heads;
  shape.insert(shape.end() - 1, heads);
  const auto split = projected.view(shape);
  return split.dim() == 4 ? split.transpose(1, 2) : split;
}

/// Rows [1, heads or 1, k, d] behind the patterns of every batch element or bag.
at::Tensor append_rows(const at::Tensor& patterns, const at::Tensor& rows, const std::vector<int64_t>& bag_sizes) {
  if (patterns.dim() == 4) {
    return at::cat({patterns, rows.expand({patterns.size(0), patterns.size(1), -1, -1})}, 2);
  }
  const auto ragged_rows = rows.squeeze(0).transpose(0, 1).expand({-1, patterns.size(1), -1});  // [k, heads or 1, d]
  std::vector<at::Tensor> pieces;
  for (const auto& bag : patterns.split_with_sizes(bag_sizes)) {
    pieces.push_back(bag);
    pieces.push_back(ragged_rows);
  }
  return pieces.empty() ? patterns : at::cat(pieces);
}

/// Ragged rows without the `appended` ones behind each bag.
at::Tensor drop_appended_rows(const at::Tensor& rows, const std::vector<int64_t>& bag_sizes, int64_t appended) {
  if (appended == 0 || bag_sizes.empty()) return rows;
  auto sizes = bag_sizes;
  for (auto& size : sizes) size += appended;
  auto bags = rows.split_with_sizes(sizes);
  for (size_t i = 0; i < bags.size(); ++i) bags[i] = bags[i].narrow(0, 0, bag_sizes[i]);
  return at::cat(bags);
}

at::Tensor softmax_from(const at::Tensor& scores, const at::Tensor& logsumexp) {
  return (scores - logsumexp).exp().masked_fill(at::isneginf(scores), 0.0);
}

}  // namespace

std::pair<at::Tensor, at::Tensor> without_norm(at::Tensor weight, at::Tensor bias, const at::Tensor& gamma,
                                               const at::Tensor& delta) {
  if (delta.defined()) {
    const auto shift = weight.matmul(delta);
    bias = bias.defined() ? bias + shift : shift;
  }
  if (gamma.defined()) weight = weight * gamma;
  return {weight, bias};
}

AssociationCoreImpl::AssociationCoreImpl(AssociationSettings given) : settings(std::move(given)) { reset(); }

void AssociationCoreImpl::reset() {
  sizes_ = resolve(settings);
  generator_ = copy_generator();
  register_weights();
  reset_parameters();
}

void AssociationCoreImpl::register_weights() {
  const auto& s = settings;
  const auto heads = s.num_heads;
  if (s.scaling_as_trainable) scaling = register_parameter("scaling", at::empty({heads}));
  if (sizes_.all_static) return;

  const auto hidden = heads * *sizes_.hidden, pattern = heads * *sizes_.pattern;
  const auto state_rows = s.state_pattern_as_static ? 0 : hidden;
  const auto stored_rows = s.stored_pattern_as_static ? 0 : hidden;
  const auto value_rows = s.pattern_projection_as_static ? 0 : pattern;
  if (s.normalize_hopfield_space_affine) {
    p_norm_weight = register_parameter("p_norm_weight", at::empty({*sizes_.hidden}));
    p_norm_bias = register_parameter("p_norm_bias", at::empty({*sizes_.hidden}));
  }
  if (sizes_.fused_weights) {
    const auto rows = state_rows + stored_rows + value_rows;
    if (rows > 0) in_proj_weight = register_parameter("in_proj_weight", at::empty({rows, sizes_.state}));
  } else {
    const bool after_keys = s.pattern_projection_as_connected && !s.stored_pattern_as_static;
    if (state_rows > 0) q_proj_weight = register_parameter("q_proj_weight", at::empty({state_rows, sizes_.state}));
    if (stored_rows > 0) k_proj_weight = register_parameter("k_proj_weight", at::empty({stored_rows, sizes_.stored}));
    if (value_rows > 0) {
      v_proj_weight =
          register_parameter("v_proj_weight", at::empty({value_rows, after_keys ? hidden : sizes_.projection}));
    }
  }
  // The bias keeps the rows of the values even where these are static.
  if (s.input_bias && state_rows + stored_rows + value_rows > 0) {
    in_proj_bias = register_parameter("in_proj_bias", at::empty({state_rows + stored_rows + pattern}));
  }
  if (!s.disable_out_projection) {
    out_proj = register_module("out_proj",
                               torch::nn::Linear(torch::nn::LinearOptions(pattern, sizes_.output).bias(s.input_bias)));
  }
  if (s.concat_bias_pattern) {
    bias_k = register_parameter("bias_k", at::empty({1, 1, hidden}));
    bias_v = register_parameter("bias_v", at::empty({1, 1, pattern}));
  }
}

void AssociationCoreImpl::reset_parameters() {
  constexpr double kDeviation = 0.02;
  torch::NoGradGuard no_grad;
  for (auto* weight : {&in_proj_weight, &q_proj_weight, &k_proj_weight, &v_proj_weight, &bias_k, &bias_v}) {
    if (weight->defined()) torch::nn::init::normal_(*weight, 0.0, kDeviation);
  }
  if (in_proj_bias.defined()) in_proj_bias.zero_();
  if (p_norm_weight.defined()) {
    p_norm_weight.fill_(1.0);
    p_norm_bias.zero_();
  }
  if (out_proj) {
    torch::nn::init::normal_(out_proj->weight, 0.0, kDeviation);
    if (out_proj->bias.defined()) out_proj->bias.zero_();
  }
  if (scaling.defined()) {
    const auto values = settings.scaling ? settings.scaling->values() : std::vector<double>{default_beta()};
    scaling.copy_(at::tensor(values, at::kDouble));
  }
}

double AssociationCoreImpl::default_beta() const {
  return sizes_.all_static ? 1.0 : 1.0 / std::sqrt(static_cast<double>(*sizes_.hidden));
}

at::Tensor AssociationCoreImpl::beta() const {
  if (scaling.defined()) return scaling;
  return RetrieveOptions().beta(settings.scaling.value_or(default_beta())).beta();
}

AssociationCoreImpl::Projection AssociationCoreImpl::state_projection() const {
  if (settings.state_pattern_as_static) return {};
  const auto rows = settings.num_heads * *sizes_.hidden;
  return {sizes_.fused_weights ? in_proj_weight.narrow(0, 0, rows) : q_proj_weight,
          in_proj_bias.defined() ? in_proj_bias.narrow(0, 0, rows) : at::Tensor()};
}

AssociationCoreImpl::Projection AssociationCoreImpl::stored_projection() const {
  if (settings.stored_pattern_as_static) return {};
  const auto rows = settings.num_heads * *sizes_.hidden;
  const auto first = settings.state_pattern_as_static ? 0 : rows;
  return {sizes_.fused_weights ? in_proj_weight.narrow(0, first, rows) : k_proj_weight,
          in_proj_bias.defined() ? in_proj_bias.narrow(0, first, rows) : at::Tensor()};
}

AssociationCoreImpl::Projection AssociationCoreImpl::value_projection() const {
  if (settings.pattern_projection_as_static) return {};
  const auto rows = settings.num_heads * *sizes_.pattern;
  return {sizes_.fused_weights ? in_proj_weight.narrow(0, in_proj_weight.size(0) - rows, rows) : v_proj_weight,
          in_proj_bias.defined() ? in_proj_bias.narrow(0, in_proj_bias.size(0) - rows, rows) : at::Tensor()};
}

at::Tensor AssociationCoreImpl::project_values(const at::Tensor& projection) const {
  auto values = projection;
  const auto keys = stored_projection();
  const bool through_keys = settings.pattern_projection_as_connected && keys.weight.defined();
  if (through_keys) values = at::linear(values, keys.weight, keys.bias);
  const auto own = value_projection();
  if (own.weight.defined()) values = at::linear(values, own.weight, own.bias);
  const bool heads_share = !through_keys && !own.weight.defined();
  return split_heads(values, heads_share ? 1 : settings.num_heads);
}

at::Tensor AssociationCoreImpl::normalize(const at::Tensor& heads) const {
  if (!settings.normalize_hopfield_space) return heads;
  return at::layer_norm(heads, {heads.size(-1)}, p_norm_weight, p_norm_bias, settings.normalize_hopfield_space_eps);
}

int64_t AssociationCoreImpl::appended_rows() const {
  return (settings.concat_bias_pattern ? 1 : 0) + (settings.add_zero_association ? 1 : 0);
}

at::Tensor AssociationCoreImpl::append(const at::Tensor& patterns, const at::Tensor& bias_row,
                                       const std::vector<int64_t>& bag_sizes) const {
  std::vector<at::Tensor> rows;
  if (bias_row.defined()) rows.push_back(split_heads(bias_row, settings.num_heads));
  if (settings.add_zero_association) {
    rows.push_back(at::zeros({1, 1, 1, patterns.size(-1)}, patterns.options()).expand({-1, patterns.size(1), -1, -1}));
  }
  return rows.empty() ? patterns : append_rows(patterns, at::cat(rows, 2), bag_sizes);
}

at::Tensor AssociationCoreImpl::project(const at::Tensor& patterns, const Projection& projection) const {
  if (!projection.weight.defined()) return split_heads(patterns, 1);
  return split_heads(at::linear(patterns, projection.weight, projection.bias), settings.num_heads);
}

at::Tensor AssociationCoreImpl::project_state(const at::Tensor& state) const {
  const auto projected = normalize(project(state, state_projection()));  // [N or 1, H or 1, L, d], [total_L, H or 1, d]
  auto shape = std::vector<int64_t>(projected.dim(), -1);
  shape[1] = settings.num_heads;
  return projected.expand(shape);
}

at::Tensor AssociationCoreImpl::append_to_bias(const at::Tensor& key_bias,
                                               const std::vector<int64_t>& bag_sizes) const {
  const auto appended = appended_rows();
  if (!key_bias.defined() || appended == 0) return key_bias;
  return append_rows(key_bias.view({-1, 1, 1}), key_bias.new_zeros({1, 1, appended, 1}), bag_sizes).flatten();
}

RetrieveInput AssociationCoreImpl::retrieve_input(const Projected& projected, const AssociationInput& patterns,
                                                  const Offsets& offsets, const Masks& masks) const {
  const auto batch = batch_size(patterns, offsets);
  const bool ragged = offsets.stored.defined();
  std::vector<int64_t> sizes;
  if (ragged && appended_rows() > 0) sizes = bag_sizes(offsets.stored, patterns.stored.size(0));

  RetrieveInput input;
  // Queries shared by the batch or by the heads are projected once; expand() repeats them without copying.
  input.state = offsets.state.defined() ? projected.state : projected.state.expand({batch, -1, -1, -1});
  input.state_offsets = offsets.state;
  input.stored = append(projected.stored, bias_k, sizes);
  input.projection = append(projected.values, bias_v, sizes);
  if (ragged) {
    check_ragged_masks(masks, patterns.stored.size(0), settings.layer);
    input.masks.key_bias = append_to_bias(masks.key_bias, sizes);
    input.offsets = offsets.stored + at::arange(offsets.stored.numel(), offsets.stored.options()) * appended_rows();
  } else {
    set_masks(input, masks, batch, settings.num_heads, appended_rows(), settings.layer);
  }
  return input;
}

AssociationResult AssociationCoreImpl::forward(const AssociationInput& patterns, const Offsets& offsets,
                                               const Masks& masks, const AssociationRequest& request) {
  const Projected projected{project_state(patterns.state), normalize(project(patterns.stored, stored_projection())),
                            project_values(patterns.projection)};
  return associate(projected, patterns, offsets, masks, request);
}

bool AssociationCoreImpl::projects_together() const {
  const auto& s = settings;
  return sizes_.fused_weights && !s.state_pattern_as_static && !s.stored_pattern_as_static &&
         !s.pattern_projection_as_static;
}

AssociationResult AssociationCoreImpl::forward_together(const at::Tensor& patterns, const InputNorms& norms,
                                                        const Masks& masks, const AssociationRequest& request) {
  std::vector<at::Tensor> weights, biases;
  const Projection projections[] = {state_projection(), stored_projection(), value_projection()};
  const InputNorms::Affine* affine[] = {&norms.state, &norms.stored, &norms.projection};
  for (size_t i = 0; i < 3; ++i) {
    const auto [weight, bias] =
        without_norm(projections[i].weight, projections[i].bias, affine[i]->weight, affine[i]->bias);
    weights.push_back(weight);
    if (bias.defined()) biases.push_back(bias);
  }
  const bool plain = !norms.state.weight.defined();
  const auto all = at::linear(patterns, plain ? in_proj_weight : at::cat(weights),
                              plain            ? in_proj_bias
                              : biases.empty() ? at::Tensor()
                                               : at::cat(biases));
  const auto parts = all.split_with_sizes({weights[0].size(0), weights[1].size(0), weights[2].size(0)}, -1);
  const auto heads = settings.num_heads;
  const Projected projected{normalize(split_heads(parts[0], heads)), normalize(split_heads(parts[1], heads)),
                            split_heads(parts[2], heads)};
  return associate(projected, {patterns, patterns, patterns}, {}, masks, request);
}

AssociationResult AssociationCoreImpl::associate(const Projected& projected, const AssociationInput& patterns,
                                                 const Offsets& offsets, const Masks& masks,
                                                 const AssociationRequest& request) {
  const auto input = retrieve_input(projected, patterns, offsets, masks);
  const auto r = retrieve(input, RetrieveOptions(settings)
                                     .beta(beta())
                                     .dropout(is_training() ? settings.dropout : 0.0)
                                     .generator(generator_)
                                     .with_energy(request.energy())
                                     .with_scores(request.association()));
  // [N, L, heads * pattern_size], [total_L, heads * pattern_size]
  const auto merged = offsets.state.defined() ? r.output.flatten(1) : r.output.transpose(1, 2).flatten(2);
  return finish(merged, r, offsets.stored, patterns.stored.size(0), appended_rows());
}

AssociationResult AssociationCoreImpl::finish(const at::Tensor& merged, const RetrieveResult& r,
                                              const at::Tensor& offsets, int64_t total, int64_t appended) {
  AssociationResult result;
  result.output = out_proj ? out_proj->forward(merged) : merged;
  result.state = r.state;
  result.logsumexp = r.logsumexp;
  result.steps = r.steps;
  result.residual = r.residual;
  result.converged = r.converged;
  result.energy = r.energy;
  if (!r.scores.defined()) return result;
  auto logsumexp = r.logsumexp.unsqueeze(-1);  // [N, H, L, 1]
  result.scores = r.scores;
  if (offsets.defined()) {
    const auto sizes = bag_sizes(offsets, total);
    result.scores = drop_appended_rows(r.scores, sizes, appended);  // [total, H, L]
    logsumexp = r.logsumexp.repeat_interleave(at::tensor(sizes, at::kLong).to(r.scores.device()), 0);
  }
  result.association = softmax_from(result.scores, logsumexp);
  return result;
}

at::Tensor AssociationCoreImpl::projected_patterns(const at::Tensor& projection) {
  return append(project_values(projection), bias_v, {});
}

void AssociationCoreImpl::pretty_print(std::ostream& stream) const {
  stream << "hopfield::nn::AssociationCore(num_heads=" << settings.num_heads;
  if (sizes_.hidden) stream << ", hidden_size=" << *sizes_.hidden << ", pattern_size=" << *sizes_.pattern;
  stream << ")";
}

}  // namespace hopfield::nn
