#pragma once

#include <hopfield/theory/heads.h>

#include <vector>

namespace hopfield::theory {

/// Collects what is to be known of each query, a few numbers, from tiles of weights.
class HeadTally {
 public:
  /// @param function  begins the error messages
  HeadTally(const char* function, int64_t heads);

  /// Adds the queries of a tile.
  /// @param weights   [n, H, l, S]
  /// @param excluded  bool, true where a key is not live; broadcasts to the weights; undefined: none
  /// @param ignored   [n, 1, l, 1] bool, true for queries that do not count; undefined: none
  /// @throws c10::Error if a weight of a live key is negative or not finite.
  void add(const at::Tensor& weights, const at::Tensor& excluded, const at::Tensor& ignored);

  HeadClasses result() const;

 private:
  const char* function_;
  // Each [H, queries]. Those that do not count have a k90 of 0.
  std::vector<at::Tensor> k90_, live_, entropy_;
};

}  // namespace hopfield::theory
