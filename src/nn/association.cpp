#include "nn/association_sizes.h"
#include <hopfield/nn/association.h>

#include <ATen/ATen.h>
#include <torch/nn/init.h>

#include <cmath>
#include <ostream>
#include <vector>

namespace hopfield::nn {
namespace {

/// The parameters that the options ask for, under the names of the Python package.
void register_weights(AssociationCoreImpl& core) {
  const auto& s = core.settings;
  const auto sizes = sizes_of(s);
  const auto heads = s.num_heads;
  if (s.scaling_as_trainable) core.scaling = core.register_parameter("scaling", at::empty({heads}));
  if (sizes.all_static) return;

  const auto hidden = heads * *sizes.hidden, pattern = heads * *sizes.pattern;
  const auto state_rows = s.state_pattern_as_static ? 0 : hidden;
  const auto stored_rows = s.stored_pattern_as_static ? 0 : hidden;
  const auto value_rows = s.pattern_projection_as_static ? 0 : pattern;
  if (s.normalize_hopfield_space_affine) {
    core.p_norm_weight = core.register_parameter("p_norm_weight", at::empty({*sizes.hidden}));
    core.p_norm_bias = core.register_parameter("p_norm_bias", at::empty({*sizes.hidden}));
  }
  if (sizes.fused_weights) {
    const auto rows = state_rows + stored_rows + value_rows;
    if (rows > 0) core.in_proj_weight = core.register_parameter("in_proj_weight", at::empty({rows, sizes.state}));
  } else {
    const bool after_keys = s.pattern_projection_as_connected && !s.stored_pattern_as_static;
    if (state_rows > 0)
      core.q_proj_weight = core.register_parameter("q_proj_weight", at::empty({state_rows, sizes.state}));
    if (stored_rows > 0)
      core.k_proj_weight = core.register_parameter("k_proj_weight", at::empty({stored_rows, sizes.stored}));
    if (value_rows > 0) {
      core.v_proj_weight =
          core.register_parameter("v_proj_weight", at::empty({value_rows, after_keys ? hidden : sizes.projection}));
    }
  }
  // The bias keeps the rows of the values even where these are static.
  if (s.input_bias && state_rows + stored_rows + value_rows > 0) {
    core.in_proj_bias = core.register_parameter("in_proj_bias", at::empty({state_rows + stored_rows + pattern}));
  }
  if (!s.disable_out_projection) {
    core.out_proj = core.register_module(
        "out_proj", torch::nn::Linear(torch::nn::LinearOptions(pattern, sizes.output).bias(s.input_bias)));
  }
  if (s.concat_bias_pattern) {
    core.bias_k = core.register_parameter("bias_k", at::empty({1, 1, hidden}));
    core.bias_v = core.register_parameter("bias_v", at::empty({1, 1, pattern}));
  }
}

double default_beta(const AssociationSettings& settings) {
  const auto sizes = sizes_of(settings);
  return sizes.all_static ? 1.0 : 1.0 / std::sqrt(static_cast<double>(*sizes.hidden));
}

}  // namespace

AssociationCoreImpl::AssociationCoreImpl(AssociationSettings given) : settings(std::move(given)) { reset(); }

void AssociationCoreImpl::reset() {
  check_settings(settings);
  generator_ = copy_generator();
  register_weights(*this);
  reset_parameters();
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
    const auto values = settings.scaling ? settings.scaling->values() : std::vector<double>{default_beta(settings)};
    scaling.copy_(at::tensor(values, at::kDouble));
  }
}

std::optional<int64_t> AssociationCoreImpl::hidden_size() const { return sizes_of(settings).hidden; }

bool AssociationCoreImpl::all_static() const { return sizes_of(settings).all_static; }

at::Tensor AssociationCoreImpl::beta() const {
  if (scaling.defined()) return scaling;
  return RetrieveOptions().beta(settings.scaling.value_or(default_beta(settings))).beta();
}

void AssociationCoreImpl::pretty_print(std::ostream& stream) const {
  const auto sizes = sizes_of(settings);
  stream << "hopfield::nn::AssociationCore(num_heads=" << settings.num_heads;
  if (sizes.hidden) stream << ", hidden_size=" << *sizes.hidden << ", pattern_size=" << *sizes.pattern;
  stream << ")";
}

}  // namespace hopfield::nn
