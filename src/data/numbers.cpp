#include "data/numbers.h"

#include <ATen/ATen.h>

#include <cmath>

namespace hopfield::data::detail {

std::vector<double> numbers_of(const at::Tensor& values, const char* function, const char* argument) {
  TORCH_CHECK(values.defined(), function, ": expected ", argument, " to have shape [n], got an undefined tensor");
  TORCH_CHECK(values.dim() == 1 && !values.is_complex(), function, ": expected ", argument,
              " to be real numbers of shape [n], got ", values.sizes(), " of type ", values.scalar_type());
  const auto host = values.detach().to(at::kCPU, at::kDouble).contiguous();
  const auto* begin = host.const_data_ptr<double>();
  std::vector<double> numbers(begin, begin + host.numel());
  for (size_t i = 0; i < numbers.size(); ++i) {
    TORCH_CHECK(!std::isnan(numbers[i]), function, ": expected ", argument, " without NaN, got one at position ", i);
  }
  return numbers;
}

}  // namespace hopfield::data::detail
