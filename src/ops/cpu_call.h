#pragma once

#include "ops/retrieve_internal.h"
#include <hopfield/ops/pool.h>

#include <kernels/cpu/retrieve.h>

#include <vector>

namespace hopfield::detail {

/// Strides of patterns [N or 1, H or 1, rows, width], or ragged [total, H or 1, width].
kernels::Tensor4 strides_of(const at::Tensor& tensor);

/// A call in the kernels' terms. Owns the tensors and numbers that the problem points into.
class CpuCall {
 public:
  CpuCall(const RetrieveInput& input, const RetrieveSettings& settings, uint64_t seed);
  /// Of a pool: `input` holds its instances as stored patterns that the heads share.
  CpuCall(const RetrieveInput& input, const PoolInput& pool, const RetrieveSettings& settings, uint64_t seed);
  CpuCall(const CpuCall&) = delete;
  CpuCall& operator=(const CpuCall&) = delete;

  const kernels::RetrieveProblem& problem() const { return p_; }
  int64_t most_steps() const;
  const at::Tensor& state() const { return state_; }
  /// [heads]
  const std::vector<float>& beta() const { return beta_; }

 private:
  void set_iteration(const RetrieveSettings& settings);
  void set_masks(const RetrieveInput& input);

  at::Tensor state_, stored_, projection_, offsets_, key_bias_, pair_, weight_, transposed_, bias_;
  std::vector<int64_t> steps_;
  std::vector<float> eps_, beta_;
  kernels::KeyMap map_;
  kernels::RetrieveProblem p_;
};

}  // namespace hopfield::detail
