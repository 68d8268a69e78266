#include "nn/activation.h"
#include "nn/association_internal.h"
#include <hopfield/nn/hopfield.h>

#include <ATen/ATen.h>

#include <ostream>
#include <sstream>

namespace hopfield::nn {
namespace {

torch::nn::LayerNorm make_norm(int64_t size, bool affine, double eps) {
  return torch::nn::LayerNorm(torch::nn::LayerNormOptions({size}).elementwise_affine(affine).eps(eps));
}

at::Tensor apply_norm(torch::nn::LayerNorm& norm, const at::Tensor& patterns, const char* name,
                      const std::string& layer) {
  if (!norm) return patterns;
  const auto size = norm->options.normalized_shape().front();
  TORCH_CHECK(patterns.size(-1) == size, layer, ": expected ", name, " to have size ", size, " for its LayerNorm, got ",
              patterns.sizes(), "; switch the norm off, or set the option of its size");
  return norm->forward(patterns);
}

/// Instances that no query may attend to, as zeros: NaN there must not reach the parameters' gradients. Shared patterns
/// are touched only where they are excluded for the whole batch.
at::Tensor without_excluded(const at::Tensor& patterns, const Masks& masks) {
  at::Tensor excluded;
  if (const auto& padding = masks.padding_mask; padding.defined()) excluded = padding.to(at::kBool);
  if (masks.key_bias.defined()) {
    const auto infinite = at::isneginf(masks.key_bias);
    excluded = excluded.defined() ? excluded.logical_or(infinite) : infinite;
  }
  if (!excluded.defined()) return patterns;
  if (patterns.dim() == 2 && excluded.sizes() == patterns.sizes().slice(0, 1)) {
    return patterns.masked_fill(excluded.unsqueeze(-1), 0.0);  // ragged
  }
  if (patterns.dim() != 3 || excluded.dim() != 2 || excluded.size(1) != patterns.size(1)) return patterns;
  if (excluded.size(0) != patterns.size(0)) excluded = excluded.all(0, /*keepdim=*/true);
  return patterns.masked_fill(excluded.unsqueeze(-1), 0.0);
}

/// With a projection, which is by default the stored patterns.
AssociationInput complete(AssociationInput input) {
  if (!input.projection.defined()) input.projection = input.stored;
  return input;
}

bool is_one_sequence(const AssociationInput& input) {
  return input.state.defined() && input.state.dim() == 2 && input.stored.defined() && input.stored.dim() == 2 &&
         input.projection.dim() == 2;
}

/// Tensors that were the same are the same afterwards: one product may project them together.
AssociationInput with_batch(const AssociationInput& input, int64_t dimension) {
  const auto stored = input.stored.unsqueeze(dimension);
  const auto widen = [&](const at::Tensor& tensor) {
    return tensor.is_same(input.stored) ? stored : tensor.unsqueeze(dimension);
  };
  return {widen(input.state), stored, widen(input.projection)};
}

template <typename T>
void print(std::ostream& stream, const char* name, const PerHead<T>& value) {
  stream << ", " << name << "=";
  const auto& values = value.values();
  if (values.size() == 1) {
    stream << values.front();
    return;
  }
  for (size_t i = 0; i < values.size(); ++i) stream << (i == 0 ? "[" : ", ") << values[i];
  stream << "]";
}

}  // namespace

std::string describe(const AssociationSettings& s) {
  std::ostringstream stream;
  stream << std::boolalpha << "input_size=" << (s.input_size ? std::to_string(*s.input_size) : std::string("none"));
  const auto size = [&](const char* name, const std::optional<int64_t>& value) {
    if (value) stream << ", " << name << "=" << *value;
  };
  const auto flag = [&](const char* name, bool value, bool usual) {
    if (value != usual) stream << ", " << name << "=" << value;
  };
  size("hidden_size", s.hidden_size);
  size("output_size", s.output_size);
  size("pattern_size", s.pattern_size);
  size("stored_pattern_size", s.stored_pattern_size);
  size("pattern_projection_size", s.pattern_projection_size);
  stream << ", num_heads=" << s.num_heads;
  if (s.scaling) print(stream, "scaling", *s.scaling);
  flag("scaling_as_trainable", s.scaling_as_trainable, false);
  if (s.update_steps_max.values().size() == 1 && s.update_steps_max.values().front() < 0) {
    stream << ", update_steps_max=until_converged, update_steps_cap=" << s.update_steps_cap;
  } else {
    print(stream, "update_steps_max", s.update_steps_max);
  }
  print(stream, "update_steps_eps", s.update_steps_eps);
  stream << ", stop_rule=" << to_string(s.stop_rule) << ", gradient=" << to_string(s.gradient);
  if (s.backend != Backend::automatic) stream << ", backend=" << to_string(s.backend);
  flag("normalize_stored_pattern", s.normalize_stored_pattern, true);
  flag("normalize_state_pattern", s.normalize_state_pattern, true);
  flag("normalize_pattern_projection", s.normalize_pattern_projection, true);
  flag("normalize_hopfield_space", s.normalize_hopfield_space, false);
  flag("stored_pattern_as_static", s.stored_pattern_as_static, false);
  flag("state_pattern_as_static", s.state_pattern_as_static, false);
  flag("pattern_projection_as_static", s.pattern_projection_as_static, false);
  flag("pattern_projection_as_connected", s.pattern_projection_as_connected, false);
  flag("batch_first", s.batch_first, true);
  if (s.association_activation) stream << ", association_activation=" << *s.association_activation;
  if (s.dropout > 0) stream << ", dropout=" << s.dropout;
  flag("input_bias", s.input_bias, true);
  flag("concat_bias_pattern", s.concat_bias_pattern, false);
  flag("add_zero_association", s.add_zero_association, false);
  flag("disable_out_projection", s.disable_out_projection, false);
  return stream.str();
}

HopfieldImpl::HopfieldImpl(HopfieldOptions given) : options(std::move(given)) { reset(); }

void HopfieldImpl::reset() {
  const auto& s = options.settings();
  const auto generator = association_core ? association_core->copy_generator() : at::Generator();
  association_core = register_module("association_core", AssociationCore(s));
  set_generator(generator);
  const auto size_of = [&](const std::optional<int64_t>& own, const char* norm) {
    TORCH_CHECK(own || s.input_size, s.layer, ": expected input_size to be given for ", norm,
                "; set it, or switch the norm off");
    return own ? *own : *s.input_size;
  };
  if (s.normalize_stored_pattern) {
    norm_stored_pattern = register_module("norm_stored_pattern",
                                          make_norm(size_of(s.stored_pattern_size, "normalize_stored_pattern"),
                                                    s.normalize_stored_pattern_affine, s.normalize_stored_pattern_eps));
  }
  if (s.normalize_state_pattern) {
    norm_state_pattern = register_module("norm_state_pattern",
                                         make_norm(size_of(s.input_size, "normalize_state_pattern"),
                                                   s.normalize_state_pattern_affine, s.normalize_state_pattern_eps));
  }
  if (s.normalize_pattern_projection) {
    norm_pattern_projection =
        register_module("norm_pattern_projection",
                        make_norm(size_of(s.pattern_projection_size, "normalize_pattern_projection"),
                                  s.normalize_pattern_projection_affine, s.normalize_pattern_projection_eps));
  }
  activation_ = nullptr;
  if (s.association_activation) {
    activation_ = elementwise_function(*s.association_activation, s.layer.c_str(), "association_activation");
  }
}

void HopfieldImpl::reset_parameters() {
  association_core->reset_parameters();
  for (auto* norm : {&norm_stored_pattern, &norm_state_pattern, &norm_pattern_projection}) {
    if (*norm) (*norm)->reset_parameters();
  }
}

AssociationInput HopfieldImpl::batch_first(const AssociationInput& input) const {
  if (options.batch_first()) return input;
  const auto stored = input.stored.transpose(0, 1);
  const bool is_stored = input.projection.is_same(input.stored);
  return {input.state.is_same(input.stored) ? stored : input.state.transpose(0, 1), stored,
          is_stored ? stored : input.projection.transpose(0, 1)};
}

AssociationInput HopfieldImpl::normalize(const AssociationInput& input, const Masks& masks) {
  const auto stored = without_excluded(input.stored, masks);
  const auto projection = input.projection.is_same(input.stored) ? stored : without_excluded(input.projection, masks);
  const auto& layer = options.settings().layer;
  return {apply_norm(norm_state_pattern, input.state, "state", layer),
          apply_norm(norm_stored_pattern, stored, "stored", layer),
          apply_norm(norm_pattern_projection, projection, "projection", layer)};
}

at::Tensor HopfieldImpl::forward(const at::Tensor& input, const at::Tensor& padding_mask,
                                 const at::Tensor& association_mask) {
  auto state = input;
  if (input.defined() && padding_mask.defined() && padding_mask.dim() <= 2) {
    // Padding instances are states too here. They stay, as long as they are numbers.
    const auto padding = (options.batch_first() ? padding_mask : padding_mask.t()).to(at::kBool);
    if (input.dim() >= 2 && padding.sizes() == input.sizes().slice(0, input.dim() - 1)) {
      const auto unusable = at::isfinite(input.detach()).all(-1).logical_not().logical_and(padding);
      state = input.masked_fill(unusable.unsqueeze(-1), 0.0);
    }
  }
  return associate({state, input}, {padding_mask, association_mask}).output;
}

/// One LayerNorm and one product serve all three roles. Padding instances are states too, and their zeroes as stored
/// patterns are not: masks keep the roles apart.
bool HopfieldImpl::projects_together(const AssociationInput& input, const Masks& masks) const {
  const auto& s = options.settings();
  const bool masked = masks.padding_mask.defined() || masks.association_mask.defined() || masks.key_bias.defined();
  const bool same_norms = s.normalize_stored_pattern == s.normalize_state_pattern &&
                          s.normalize_stored_pattern == s.normalize_pattern_projection &&
                          s.normalize_stored_pattern_eps == s.normalize_state_pattern_eps &&
                          s.normalize_stored_pattern_eps == s.normalize_pattern_projection_eps &&
                          s.normalize_stored_pattern_affine == s.normalize_state_pattern_affine &&
                          s.normalize_stored_pattern_affine == s.normalize_pattern_projection_affine;
  return !masked && same_norms && input.stored.is_same(input.state) && input.projection.is_same(input.state) &&
         association_core->projects_together();
}

AssociationResult HopfieldImpl::associate_with_itself(const at::Tensor& patterns, const Masks& masks,
                                                      const AssociationRequest& request) {
  AssociationCoreImpl::InputNorms norms;
  auto normalized = patterns;
  if (norm_state_pattern) {
    normalized = at::layer_norm(patterns, {patterns.size(-1)}, {}, {}, options.normalize_state_pattern_eps());
    norms.state = {norm_state_pattern->weight, norm_state_pattern->bias};
    norms.stored = {norm_stored_pattern->weight, norm_stored_pattern->bias};
    norms.projection = {norm_pattern_projection->weight, norm_pattern_projection->bias};
  }
  return association_core->forward_together(normalized, norms, masks, request);
}

AssociationResult HopfieldImpl::associate(const AssociationInput& given, const Masks& masks,
                                          const AssociationRequest& request) {
  const auto input = complete(given);
  if (is_one_sequence(input)) {
    const int64_t dimension = options.batch_first() ? 0 : 1;
    return without_batch(associate(with_batch(input, dimension), with_batch(masks), request), dimension);
  }
  association_core->check_patterns(input, {});
  const auto patterns = batch_first(input);
  auto result = projects_together(input, masks)
                    ? associate_with_itself(patterns.state, masks, request)
                    : association_core->forward(normalize(patterns, masks), {}, masks, request);
  result.output = activate(options.batch_first() ? result.output : result.output.transpose(0, 1));
  return result;
}

AssociationResult HopfieldImpl::associate_bags(const AssociationInput& given, const at::Tensor& state_offsets,
                                               const at::Tensor& offsets, const Masks& masks,
                                               const AssociationRequest& request) {
  TORCH_CHECK(offsets.defined(), options.settings().layer,
              ": expected offsets of the stored patterns [N + 1], got none; padded patterns go to associate()");
  const auto input = complete(given);
  association_core->check_patterns(input, {state_offsets, offsets});
  auto result = association_core->forward(normalize(input, masks), {state_offsets, offsets}, masks, request);
  result.output = activate(result.output);
  return result;
}

AssociationResult HopfieldImpl::associate_instances(const at::Tensor& instances, const at::Tensor& state,
                                                    const at::Tensor& offsets, const Masks& masks,
                                                    const AssociationRequest& request) {
  AssociationInput input{state, instances, instances};
  association_core->check_patterns(input, {{}, offsets});
  if (!offsets.defined()) input = batch_first(input);
  AssociationCoreImpl::InputNorms norms;
  if (norm_stored_pattern) {
    norms.eps = options.normalize_stored_pattern_eps();
    norms.stored = {norm_stored_pattern->weight, norm_stored_pattern->bias};
    norms.projection = {norm_pattern_projection->weight, norm_pattern_projection->bias};
  }
  auto result = association_core->forward_absorbed(
      input.stored, apply_norm(norm_state_pattern, input.state, "state", options.settings().layer), offsets, masks,
      norms, request);
  result.output = activate(offsets.defined() || options.batch_first() ? result.output : result.output.transpose(0, 1));
  return result;
}

at::Tensor HopfieldImpl::get_association_matrix(const AssociationInput& input, const Masks& masks) {
  at::NoGradGuard no_grad;
  return associate(input, masks, AssociationRequest().with_association()).association;
}

at::Tensor HopfieldImpl::get_projected_pattern_matrix(const AssociationInput& given) {
  at::NoGradGuard no_grad;
  const auto input = complete(given);
  if (is_one_sequence(input)) {
    return get_projected_pattern_matrix(with_batch(input, options.batch_first() ? 0 : 1)).squeeze(0);
  }
  association_core->check_patterns(input, {});
  const auto patterns = normalize(batch_first(input), {});
  const auto values = association_core->projected_patterns(patterns.projection);
  // A copy: static patterns would be a view of the input, or of a parameter.
  return values.expand({std::max(values.size(0), patterns.state.size(0)), options.num_heads(), -1, -1}).clone();
}

void HopfieldImpl::pretty_print(std::ostream& stream) const {
  stream << "hopfield::nn::Hopfield(" << describe(options.settings()) << ")";
}

}  // namespace hopfield::nn
