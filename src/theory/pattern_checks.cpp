#include "theory/pattern_checks.h"

#include <ATen/ATen.h>

#include <cmath>
#include <string>

#define HOPFIELD_CHECK(condition, ...) TORCH_CHECK(condition, function, ": ", __VA_ARGS__)

namespace hopfield::theory {

at::Tensor checked_rows(const char* function, const char* name, const at::Tensor& rows, int64_t fewest) {
  HOPFIELD_CHECK(
      rows.defined() && at::isFloatingType(rows.scalar_type()) && rows.dim() == 2, "expected ", name,
      " to be floating-point of 2 dimensions [N, d], got ",
      rows.defined() ? c10::str(rows.sizes(), " of type ", rows.scalar_type()) : std::string("an undefined tensor"));
  HOPFIELD_CHECK(rows.size(0) >= fewest && rows.size(1) > 0, "expected ", name, " to have at least ", fewest,
                 fewest == 1 ? " row" : " rows", " and 1 feature, got ", rows.sizes());
  HOPFIELD_CHECK(at::isfinite(rows).all().item<bool>(), "expected ", name,
                 " to be finite, got a number that is NaN or infinite");
  return rows.detach().to(at::kDouble);
}

at::Tensor checked_states(const char* function, const char* name, const at::Tensor& states,
                          const at::Tensor& patterns) {
  const auto rows = checked_rows(function, name, states, 0);
  HOPFIELD_CHECK(rows.size(1) == patterns.size(1), "expected ", name, " to have the ", patterns.size(1),
                 " features of the patterns, got ", rows.sizes());
  return rows.to(patterns.device());
}

void check_beta(const char* function, double beta) {
  HOPFIELD_CHECK(beta > 0 && std::isfinite(beta), "expected a positive and finite beta, got ", beta);
}

}  // namespace hopfield::theory
