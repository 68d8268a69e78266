#pragma once

#include <hopfield/core/bags.h>

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace hopfield::memory::detail {

/// How similar a query q is to the row p_i: (q - centre) . (p_i - centre) * scale_i + bias_i.
struct Similarity {
  double centre = 0.0;    ///< taken from every feature
  at::Tensor scale = {};  ///< [S]; undefined: 1
  at::Tensor bias = {};   ///< [S]; undefined: 0
};

/// The k rows [S, d] that are most similar to each query [Q, d], highest first. S is at least 1.
BestMatches best_rows(const at::Tensor& queries, const at::Tensor& rows, int64_t k, const Similarity& similarity = {});

/// The same by the similarity -|q - p_i|^2 / 2. `squared_norms` are those of the rows [S].
BestMatches nearest_rows(const at::Tensor& queries, const at::Tensor& rows, const at::Tensor& squared_norms, int64_t k);

}  // namespace hopfield::memory::detail
