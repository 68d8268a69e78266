#include "ops/retrieve_internal.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/EmptyTensor.h>
#include <ATen/Parallel.h>

#include <kernels/philox.h>

#include <mutex>

namespace hopfield::detail {

uint64_t draw_seed(const at::Generator& given) {
  auto generator = given.defined() ? given : at::detail::getDefaultCPUGenerator();
  const std::lock_guard<std::mutex> lock(generator.mutex());
  return at::check_generator<at::CPUGeneratorImpl>(generator)->random64();
}

at::Tensor dropout_factors(at::IntArrayRef shape, double probability, uint64_t seed, int64_t first_n,
                           const at::TensorOptions& options) {
  if (probability >= 1.0) return at::zeros(shape, options);
  const auto heads = shape[1], queries = shape[2], keys = shape[3];
  // A tensor that no transform wraps, whatever transform the call is in.
  const at::Tensor kept = at::detail::empty_cpu(shape, at::TensorOptions(at::kBool));
  auto* out = kept.data_ptr<bool>();
  const auto threshold = kernels::dropout_threshold(probability);
  const auto rows = shape[0] * heads * queries;
  constexpr int64_t kEntriesPerTask = 1 << 15;
  const auto rows_per_task = std::max<int64_t>(1, kEntriesPerTask / std::max<int64_t>(keys, 1));
  at::parallel_for(0, rows, rows_per_task, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const auto l = row % queries, h = row / queries % heads, n = first_n + row / (queries * heads);
      for (int64_t s = 0; s < keys; s += 4) {
        const auto words = kernels::dropout_words(seed, static_cast<uint32_t>(n), static_cast<uint32_t>(h),
                                                  static_cast<uint32_t>(l), static_cast<uint32_t>(s / 4));
        for (int64_t i = 0; i < 4 && s + i < keys; ++i) out[row * keys + s + i] = words[i] >= threshold;
      }
    }
  });
  return kept.to(options) / (1.0 - probability);
}

}  // namespace hopfield::detail
