#pragma once

#include <hopfield/memory/binary.h>

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace hopfield::memory::detail {

/// What stands before the couplings: W = unit * couplings. Couplings of hebb are integers, which sums leave exact.
double unit_of(LearningRule rule, int64_t neurons);

/// The couplings [d, d] after the patterns [N, d] from `before` on have been learned in addition to those before it.
/// @param couplings  those that the rule gave for the first `before` patterns; undefined if there are none
at::Tensor learned(const BinarySettings& settings, const at::Tensor& couplings, const at::Tensor& patterns,
                   int64_t before);

/// The couplings that hebb gives without the patterns [n, d], which had been learned.
at::Tensor unlearned(const BinarySettings& settings, const at::Tensor& couplings, const at::Tensor& patterns);

}  // namespace hopfield::memory::detail
