#include <hopfield/data/standardize.h>

#include <ATen/ATen.h>

#include <limits>

namespace hopfield::data {
namespace {

void check_instances(const at::Tensor& instances, const char* function) {
  TORCH_CHECK(instances.defined() && instances.dim() == 2 && at::isFloatingType(instances.scalar_type()), function,
              ": expected instances to have shape [n, features] and a floating-point type, got ",
              instances.defined() ? c10::str(instances.sizes(), " of type ", instances.scalar_type())
                                  : std::string("an undefined tensor"));
}

/// A power of two near each magnitude. Dividing by it is exact.
at::Tensor power_of_two_near(const at::Tensor& magnitude) {
  const auto positive = magnitude.masked_fill(magnitude.eq(0), 1.0);
  return positive / (2 * std::get<0>(at::frexp(positive)));
}

/// @param values  [n, features] float64, finite or NaN
Standardizer fit_values(const at::Tensor& values) {
  constexpr auto kInfinity = std::numeric_limits<double>::infinity();
  const auto missing = values.isnan();
  const bool any_missing = missing.any().item<bool>();
  const auto with = [&](double number) { return any_missing ? values.masked_fill(missing, number) : values; };
  const auto count = missing.logical_not().sum(0).to(at::kDouble);
  const auto least = with(kInfinity).amin(0);
  const auto constant = with(-kInfinity).amax(0).eq(least);
  const auto present = with(0.0);
  const auto unit = power_of_two_near(present.abs().amax(0));
  const auto scaled = present / unit;  // at most 2, because squares and sums of the values themselves might overflow
  const auto scaled_mean = scaled.sum(0) / count;
  const auto variance = (scaled - scaled_mean).square_().masked_fill_(missing, 0.0).sum(0) / count;
  const auto deviation = unit * variance.sqrt();
  const auto too_small = deviation.lt(std::numeric_limits<double>::min());
  const auto empty = count.eq(0);
  return {at::where(constant, least, unit * scaled_mean).masked_fill(empty, 0.0),
          deviation.masked_fill(constant.logical_or(too_small), 1.0).masked_fill(empty, kInfinity)};
}

at::Tensor checked_values(const at::Tensor& instances, const char* function) {
  check_instances(instances, function);
  TORCH_CHECK(instances.size(0) >= 1, function, ": expected at least one instance, got ", instances.sizes());
  return instances.detach().to(at::kDouble);
}

}  // namespace

Standardizer Standardizer::fit(const at::Tensor& instances) {
  constexpr auto* kFunction = "hopfield::data::Standardizer::fit";
  const auto values = checked_values(instances, kFunction);
  TORCH_CHECK(values.isfinite().all().item<bool>(), kFunction, ": expected finite instances, got a NaN or infinity");
  return fit_values(values);
}

Standardizer Standardizer::fit_with_missing(const at::Tensor& instances) {
  constexpr auto* kFunction = "hopfield::data::Standardizer::fit_with_missing";
  const auto values = checked_values(instances, kFunction);
  TORCH_CHECK(!values.isinf().any().item<bool>(), kFunction, ": expected finite instances or NaN, got an infinity");
  return fit_values(values);
}

Standardizer Standardizer::fit_with_missing(const std::vector<Bag>& bags) {
  return fit_with_missing(BagBatch::from(bags).values);
}

Standardizer Standardizer::fit(const std::vector<Bag>& bags) { return fit(BagBatch::from(bags).values); }

at::Tensor Standardizer::apply(const at::Tensor& instances) const {
  constexpr auto* kFunction = "hopfield::data::Standardizer::apply";
  check_instances(instances, kFunction);
  TORCH_CHECK(mean.defined() && scale.defined(), kFunction, ": expected mean and scale to be set; call fit() first");
  TORCH_CHECK(instances.size(1) == mean.numel() && instances.size(1) == scale.numel(), kFunction,
              ": expected instances to have ", mean.numel(), " features like mean and scale, got ", instances.sizes());
  // Calculates with halves, because the difference of two numbers near the limits of float64 would overflow.
  const auto half_of = [&](const at::Tensor& numbers) { return numbers.to(instances.device(), at::kDouble) * 0.5; };
  return half_of(instances).sub_(half_of(mean)).div_(half_of(scale)).to(instances.scalar_type());
}

std::vector<Bag> Standardizer::apply(std::vector<Bag> bags) const {
  for (auto& bag : bags) bag.instances = apply(bag.instances);
  return bags;
}

at::Tensor Standardizer::apply_with_missing(const at::Tensor& instances) const {
  return apply(instances).masked_fill_(instances.isnan(), 0.0);
}

std::vector<Bag> Standardizer::apply_with_missing(std::vector<Bag> bags) const {
  for (auto& bag : bags) bag.instances = apply_with_missing(bag.instances);
  return bags;
}

}  // namespace hopfield::data
