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

/// Division by a power of two is exact.
at::Tensor power_of_two_near(const at::Tensor& magnitude) {
  const auto positive = magnitude.masked_fill(magnitude.eq(0), 1.0);
  return positive / (2 * std::get<0>(at::frexp(positive)));
}

}  // namespace

Standardizer Standardizer::fit(const at::Tensor& instances) {
  constexpr auto* kFunction = "hopfield::data::Standardizer::fit";
  check_instances(instances, kFunction);
  TORCH_CHECK(instances.size(0) >= 1, kFunction, ": expected at least one instance, got ", instances.sizes());
  const auto values = instances.detach().to(at::kDouble);
  TORCH_CHECK(values.isfinite().all().item<bool>(), kFunction, ": expected finite instances, got a NaN or infinity");
  const auto constant = values.amax(0).eq(values.amin(0));
  const auto unit = power_of_two_near(values.abs().amax(0));
  const auto scaled = values / unit;  // at most 2: squares and sums of the values themselves may overflow
  const auto scaled_mean = scaled.mean(0);
  const auto deviation = unit * (scaled - scaled_mean).square_().mean(0).sqrt();
  const auto too_small = deviation.lt(std::numeric_limits<double>::min());
  return {at::where(constant, values[0], unit * scaled_mean),
          deviation.masked_fill(constant.logical_or(too_small), 1.0)};
}

Standardizer Standardizer::fit(const std::vector<Bag>& bags) { return fit(BagBatch::from(bags).values); }

at::Tensor Standardizer::apply(const at::Tensor& instances) const {
  constexpr auto* kFunction = "hopfield::data::Standardizer::apply";
  check_instances(instances, kFunction);
  TORCH_CHECK(mean.defined() && scale.defined(), kFunction, ": expected mean and scale to be set; call fit() first");
  TORCH_CHECK(instances.size(1) == mean.numel() && instances.size(1) == scale.numel(), kFunction,
              ": expected instances to have ", mean.numel(), " features like mean and scale, got ", instances.sizes());
  // Halves, because the difference of two numbers near the limits of float64 overflows.
  const auto half_of = [&](const at::Tensor& numbers) { return numbers.to(instances.device(), at::kDouble) * 0.5; };
  return half_of(instances).sub_(half_of(mean)).div_(half_of(scale)).to(instances.scalar_type());
}

std::vector<Bag> Standardizer::apply(std::vector<Bag> bags) const {
  for (auto& bag : bags) bag.instances = apply(bag.instances);
  return bags;
}

}  // namespace hopfield::data
