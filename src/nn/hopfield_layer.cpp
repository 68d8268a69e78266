#include "core/masks_checks.h"
#include "nn/batch_forms.h"
#include "nn/options_print.h"
#include <hopfield/nn/hopfield_layer.h>

#include <ATen/ATen.h>
#include <torch/nn/init.h>

#include <ostream>

namespace hopfield::nn {
namespace {

AssociationInput with_lookups(const HopfieldLayerImpl& layer, const at::Tensor& state) {
  return {state, layer.lookup_weights, layer.target_weights.defined() ? layer.target_weights : layer.lookup_weights};
}

}  // namespace

HopfieldLayerImpl::HopfieldLayerImpl(HopfieldLayerOptions given) : options(std::move(given)) { reset(); }

void HopfieldLayerImpl::reset() {
  const auto& s = options.settings();
  TORCH_CHECK(s.quantity > 0, "hopfield::nn::HopfieldLayer: expected quantity to be positive, got ", s.quantity);
  const auto generator = hopfield ? hopfield->association_core->copy_generator() : at::Generator();
  AssociationSettings association = s;
  association.layer = "hopfield::nn::HopfieldLayer";
  hopfield = register_module("hopfield", Hopfield(HopfieldOptions(association)));
  set_generator(generator);
  const auto& core = hopfield->association_core;
  const auto stored_width = core->all_static() || !s.stored_pattern_size ? s.input_size : s.stored_pattern_size;
  const auto width = s.stored_pattern_as_static && core->hidden_size() ? core->hidden_size() : stored_width;
  TORCH_CHECK(width, "hopfield::nn::HopfieldLayer: expected input_size to be given: stored patterns have that width");
  const auto lookups = [&](int64_t size) {
    return s.batch_first ? at::empty({1, s.quantity, size}) : at::empty({s.quantity, 1, size});
  };
  lookup_weights = register_parameter("lookup_weights", lookups(*width), s.trainable);
  if (s.lookup_weights_as_separated) {
    target_weights = register_parameter("target_weights", lookups(s.pattern_projection_size.value_or(*width)),
                                        s.lookup_targets_as_trainable);
  }
  reset_parameters();
}

void HopfieldLayerImpl::reset_parameters() {
  hopfield->reset_parameters();
  torch::nn::init::normal_(lookup_weights, 0.0, 0.02);
  if (target_weights.defined()) torch::nn::init::normal_(target_weights, 0.0, 0.02);
}

at::Tensor HopfieldLayerImpl::forward(const at::Tensor& input, const at::Tensor& padding_mask,
                                      const at::Tensor& association_mask) {
  return associate(input, {padding_mask, association_mask}).output;
}

AssociationResult HopfieldLayerImpl::associate(const at::Tensor& state, const Masks& masks,
                                               const AssociationRequest& request) {
  hopfield::detail::check_not_causal("hopfield::nn::HopfieldLayer", masks);
  if (state.defined() && state.dim() == 2) {  // without a batch
    const int64_t dimension = options.batch_first() ? 0 : 1;
    return without_batch(associate(state.unsqueeze(dimension), with_batch(masks), request), dimension);
  }
  return hopfield->associate(with_lookups(*this, state), masks, request);
}

void HopfieldLayerImpl::set_patterns(const at::Tensor& patterns, const at::Tensor& targets) {
  const auto check = [](const at::Tensor& rows, const char* name, const at::Tensor& weights) {
    TORCH_CHECK(rows.defined() && rows.dim() == 2 && rows.size(0) > 0 && rows.size(1) == weights.size(-1),
                "hopfield::nn::HopfieldLayer::set_patterns: expected ", name, " to have shape [quantity, ",
                weights.size(-1), "], got ",
                rows.defined() ? c10::str(rows.sizes()) : std::string("an undefined tensor"));
  };
  check(patterns, "patterns", lookup_weights);
  if (target_weights.defined()) {
    check(targets, "targets", target_weights);
    TORCH_CHECK(targets.size(0) == patterns.size(0),
                "hopfield::nn::HopfieldLayer::set_patterns: expected targets to have ", patterns.size(0),
                " rows like patterns, got ", targets.sizes());
  } else {
    TORCH_CHECK(!targets.defined(), "hopfield::nn::HopfieldLayer::set_patterns: expected no targets, got ",
                targets.sizes(), "; targets need lookup_weights_as_separated");
  }
  const auto batch_dimension = options.batch_first() ? 0 : 1;
  const auto fill = [&](torch::Tensor& weights, const at::Tensor& rows) {
    weights.set_data(rows.detach().to(weights.options()).clone().unsqueeze(batch_dimension));
  };
  fill(lookup_weights, patterns);
  if (targets.defined()) fill(target_weights, targets);
  options.quantity(patterns.size(0));
}

at::Tensor HopfieldLayerImpl::get_association_matrix(const at::Tensor& state, const Masks& masks) {
  const at::NoGradGuard no_grad;
  return associate(state, masks, AssociationRequest().with_association()).association;
}

at::Tensor HopfieldLayerImpl::get_projected_pattern_matrix(const at::Tensor& state) {
  if (state.defined() && state.dim() == 2) {
    return get_projected_pattern_matrix(state.unsqueeze(options.batch_first() ? 0 : 1)).squeeze(0);
  }
  return hopfield->get_projected_pattern_matrix(with_lookups(*this, state));
}

void HopfieldLayerImpl::pretty_print(std::ostream& stream) const {
  stream << std::boolalpha << "hopfield::nn::HopfieldLayer(" << describe(options.settings())
         << ", quantity=" << options.quantity() << ", trainable=" << options.trainable()
         << ", lookup_weights_as_separated=" << options.lookup_weights_as_separated()
         << ", lookup_targets_as_trainable=" << options.lookup_targets_as_trainable() << ")";
}

}  // namespace hopfield::nn
