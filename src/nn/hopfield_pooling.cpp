#include "core/masks_checks.h"
#include "nn/batch_forms.h"
#include "nn/options_print.h"
#include <hopfield/nn/hopfield_pooling.h>

#include <ATen/ATen.h>
#include <torch/nn/init.h>

#include <ostream>

namespace hopfield::nn {
namespace {

bool is_one_bag(const PoolingInput& input) { return input.stored.defined() && input.stored.dim() == 2; }

/// A projection that is the stored patterns is left out, so that it stays the same tensor as they.
PoolingInput with_batch(const PoolingInput& bag, int64_t dimension) {
  const bool has_values = bag.projection.defined() && !bag.projection.is_same(bag.stored);
  return {bag.stored.unsqueeze(dimension), has_values ? bag.projection.unsqueeze(dimension) : at::Tensor()};
}

AssociationInput with_state(const HopfieldPoolingImpl& pool, const PoolingInput& input) {
  return {pool.pooling_weights, input.stored, input.projection};
}

}  // namespace

HopfieldPoolingImpl::HopfieldPoolingImpl(HopfieldPoolingOptions given) : options(std::move(given)) { reset(); }

void HopfieldPoolingImpl::reset() {
  const auto& s = options.settings();
  TORCH_CHECK(s.quantity > 0, "hopfield::nn::HopfieldPooling: expected quantity to be positive, got ", s.quantity);
  TORCH_CHECK(s.input_size,
              "hopfield::nn::HopfieldPooling: expected input_size to be given: state patterns have that width");
  const auto generator = hopfield ? hopfield->association_core->copy_generator() : at::Generator();
  AssociationSettings association = s;
  association.layer = "hopfield::nn::HopfieldPooling";
  hopfield = register_module("hopfield", Hopfield(HopfieldOptions(association)));
  set_generator(generator);
  const auto hidden = hopfield->association_core->hidden_size();
  const auto width = s.state_pattern_as_static && hidden ? *hidden : *s.input_size;
  pooling_weights = register_parameter(
      "pooling_weights", s.batch_first ? at::empty({1, s.quantity, width}) : at::empty({s.quantity, 1, width}),
      s.trainable);
  reset_parameters();
}

void HopfieldPoolingImpl::reset_parameters() {
  hopfield->reset_parameters();
  torch::nn::init::normal_(pooling_weights, 0.0, 0.02);
}

at::Tensor HopfieldPoolingImpl::forward(const at::Tensor& input, const at::Tensor& padding_mask,
                                        const at::Tensor& association_mask) {
  return associate({input}, {padding_mask, association_mask}).output;
}

AssociationResult HopfieldPoolingImpl::associate(const PoolingInput& input, const Masks& masks,
                                                 const AssociationRequest& request) {
  hopfield::detail::check_not_causal("hopfield::nn::HopfieldPooling", masks);
  if (is_one_bag(input)) {
    return without_batch(associate(with_batch(input, options.batch_first() ? 0 : 1), with_batch(masks), request), 0);
  }
  auto result = hopfield->associate(with_state(*this, input), masks, request);
  result.output = (options.batch_first() ? result.output : result.output.transpose(0, 1)).flatten(1);
  return result;
}

at::Tensor HopfieldPoolingImpl::pool_bags(const BagBatch& bags, const at::Tensor& projection) {
  return associate_bags(bags, projection).output;
}

AssociationResult HopfieldPoolingImpl::associate_bags(const BagBatch& bags, const at::Tensor& projection,
                                                      const Masks& masks, const AssociationRequest& request) {
  TORCH_CHECK(bags.offsets.defined(),
              "hopfield::nn::HopfieldPooling: expected bags to have offsets [bags + 1], got none; "
              "padded bags go to forward()");
  hopfield::detail::check_not_causal("hopfield::nn::HopfieldPooling", masks);
  auto patterns = with_state(*this, {bags.values, projection});
  if (!options.batch_first()) patterns.state = patterns.state.transpose(0, 1);
  auto result = hopfield->associate_bags(patterns, {}, bags.offsets, masks, request);
  result.output = result.output.flatten(1);
  return result;
}

InstanceScores HopfieldPoolingImpl::instance_scores(const BagBatch& bags, const at::Tensor& projection) {
  at::NoGradGuard no_grad;
  const auto result = associate_bags(bags, projection, {}, AssociationRequest().with_association());
  return {result.scores, result.association};
}

at::Tensor HopfieldPoolingImpl::get_association_matrix(const PoolingInput& input, const Masks& masks) {
  const at::NoGradGuard no_grad;
  return associate(input, masks, AssociationRequest().with_association()).association;
}

at::Tensor HopfieldPoolingImpl::get_projected_pattern_matrix(const PoolingInput& input) {
  if (is_one_bag(input)) {
    return get_projected_pattern_matrix(with_batch(input, options.batch_first() ? 0 : 1)).squeeze(0);
  }
  return hopfield->get_projected_pattern_matrix(with_state(*this, input));
}

void HopfieldPoolingImpl::pretty_print(std::ostream& stream) const {
  stream << std::boolalpha << "hopfield::nn::HopfieldPooling(" << describe(options.settings())
         << ", quantity=" << options.quantity() << ", trainable=" << options.trainable() << ")";
}

}  // namespace hopfield::nn
