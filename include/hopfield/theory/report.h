#pragma once

#include <hopfield/theory/bounds.h>
#include <hopfield/theory/capacity.h>

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>

namespace hopfield::theory {

/// What the theory promises for patterns, and what was observed.
struct Report {
  int64_t width = 0;
  Guarantees guarantees;
  double separating_beta = 0.0;  ///< from which on all patterns are well separated; infinite if none is
  SphereCapacity sphere{};       ///< theorem 3 for random patterns of the norm M
  QueryBounds bounds;            ///< theorems 4 and 5
  Trajectories trajectories;     ///< theorems 1 and 2
  /// Queries that theorems 4 and 5 speak about, and those of them of which both held, with a slack of 8 units in the
  /// last place of M.
  int64_t qualifying = 0, held = 0;

  /// A page of text.
  std::string page() const;
};

/// @param patterns  [N, d] float32 or float64, N >= 2
/// @param beta      the inverse temperature
/// @param queries   [Q, d]; undefined: the patterns themselves, or 1,000 of them at even distances if they are more
/// @throws c10::Error as guarantees() and query_bounds()
Report report(const at::Tensor& patterns, double beta, const at::Tensor& queries = {});

}  // namespace hopfield::theory
