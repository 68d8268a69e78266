#include "nn/activation.h"
#include "nn/appended_patterns.h"
#include "nn/association_checks.h"
#include "nn/association_norms.h"
#include "nn/association_pass.h"
#include "nn/batch_forms.h"
#include "nn/options_print.h"
#include <hopfield/nn/hopfield.h>

#include <ATen/ATen.h>

#include <algorithm>
#include <ostream>

namespace hopfield::nn {
namespace {

torch::nn::LayerNorm make_norm(int64_t size, bool affine, double eps) {
  return torch::nn::LayerNorm(torch::nn::LayerNormOptions({size}).elementwise_affine(affine).eps(eps));
}

}  // namespace

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

at::Tensor HopfieldImpl::forward(const at::Tensor& input, const at::Tensor& padding_mask,
                                 const at::Tensor& association_mask) {
  return associate({input, input}, {padding_mask, association_mask}).output;
}

AssociationResult HopfieldImpl::associate(const AssociationInput& given, const Masks& masks,
                                          const AssociationRequest& request) {
  const auto input = with_projection(given);
  const bool is_batch_first = options.batch_first();
  if (is_one_sequence(input)) {
    const int64_t dimension = is_batch_first ? 0 : 1;
    return without_batch(associate(with_batch(input, dimension), with_batch(masks), request), dimension);
  }
  check_patterns(*association_core, input, {}, {});
  auto result = run_association(*this, {is_batch_first ? input : as_batch_first(input), {}, {}, masks, request});
  if (!is_batch_first) result.output = result.output.transpose(0, 1);
  if (activation_) result.output = activation_(result.output);
  return result;
}

AssociationResult HopfieldImpl::associate_bags(const AssociationInput& given, const at::Tensor& state_offsets,
                                               const at::Tensor& offsets, const Masks& masks,
                                               const AssociationRequest& request) {
  TORCH_CHECK(offsets.defined(), options.settings().layer,
              ": expected offsets of the stored patterns [N + 1], got none; padded patterns go to associate()");
  const auto input = with_projection(given);
  check_patterns(*association_core, input, state_offsets, offsets);
  auto result = run_association(*this, {input, state_offsets, offsets, masks, request});
  if (activation_) result.output = activation_(result.output);
  return result;
}

at::Tensor HopfieldImpl::get_association_matrix(const AssociationInput& input, const Masks& masks) {
  const at::NoGradGuard no_grad;
  return associate(input, masks, AssociationRequest().with_association()).association;
}

at::Tensor HopfieldImpl::get_projected_pattern_matrix(const AssociationInput& given) {
  const at::NoGradGuard no_grad;
  const auto input = with_projection(given);
  if (is_one_sequence(input)) {
    return get_projected_pattern_matrix(with_batch(input, options.batch_first() ? 0 : 1)).squeeze(0);
  }
  const auto& core = *association_core;
  check_patterns(core, input, {}, {});
  const auto patterns = normalized_patterns(*this, {options.batch_first() ? input : as_batch_first(input)});
  const auto values = append_patterns(core.settings, project_values(core, patterns.projection), core.bias_v, {});
  // A copy, because static patterns would be a view of the input, or of a parameter.
  return values.expand({std::max(values.size(0), patterns.state.size(0)), options.num_heads(), -1, -1}).clone();
}

void HopfieldImpl::pretty_print(std::ostream& stream) const {
  stream << "hopfield::nn::Hopfield(" << describe(options.settings()) << ")";
}

}  // namespace hopfield::nn
