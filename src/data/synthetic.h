#pragma once

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>
#include <c10/util/Exception.h>
#include <torch/data/example.h>

#include <cstdint>

namespace hopfield::data::detail {

// Functions that the synthetic tasks share.

/// A new CPU generator, so that LibTorch's default generator is left alone.
inline at::Generator generator_with(uint64_t seed) { return at::make_generator<at::CPUGeneratorImpl>(seed); }

inline void check_positive(int64_t value, const char* function, const char* option) {
  TORCH_CHECK(value >= 1, function, ": expected ", option, " to be at least 1, got ", value);
}

inline torch::data::Example<> example_at(const at::Tensor& data, const at::Tensor& targets, size_t index) {
  TORCH_CHECK_INDEX(index < static_cast<size_t>(targets.numel()), "hopfield::data: expected an index below ",
                    targets.numel(), ", got ", index);
  const auto position = static_cast<int64_t>(index);
  return {data[position], targets[position]};
}

}  // namespace hopfield::data::detail
