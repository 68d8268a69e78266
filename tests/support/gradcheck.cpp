#include "support/gradcheck.h"

#include "support/naive.h"

#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <cmath>

namespace hopfield::testing {
namespace {

at::Tensor functional(const TensorFunction& function, const std::vector<at::Tensor>& inputs, uint64_t seed) {
  auto total = at::zeros({}, at::kDouble);
  for (const auto& output : function(inputs)) {
    ++seed;
    if (!output.defined() || !at::isFloatingType(output.scalar_type())) continue;
    // Infinities (energy of an empty bag, excluded scores) are constants without a gradient.
    const auto finite = output.masked_fill(at::isfinite(output.detach()).logical_not(), 0.0);
    total = total + (finite * randn(output.sizes(), seed)).sum();
  }
  return total;
}

}  // namespace

double gradcheck(const TensorFunction& function, const std::vector<at::Tensor>& inputs, uint64_t seed) {
  std::vector<at::Tensor> leaves;
  for (const auto& input : inputs) leaves.push_back(input.detach().clone().requires_grad_(true));
  const auto value = functional(function, leaves, seed);
  if (!value.requires_grad()) return 0;
  const auto gradients = torch::autograd::grad({value}, leaves, {}, true, false, /*allow_unused=*/true);

  at::NoGradGuard no_grad;
  constexpr double kStep = 1e-6;
  double worst = 0;
  for (size_t i = 0; i < leaves.size(); ++i) {
    const auto entries = leaves[i].detach().view({-1});  // shares the leaf's memory
    const auto gradient = gradients[i].defined() ? gradients[i].reshape({-1}) : at::zeros_like(entries);
    for (int64_t j = 0; j < entries.numel(); ++j) {
      const double before = entries[j].item<double>();
      entries[j].fill_(before + kStep);
      const double above = functional(function, leaves, seed).item<double>();
      entries[j].fill_(before - kStep);
      const double below = functional(function, leaves, seed).item<double>();
      entries[j].fill_(before);
      const double numeric = (above - below) / (2 * kStep), analytic = gradient[j].item<double>();
      const double error = std::abs(numeric - analytic) / (1 + std::abs(numeric));
      worst = std::isnan(error) ? INFINITY : std::max(worst, error);
    }
  }
  return worst;
}

double gradgradcheck(const TensorFunction& function, const std::vector<at::Tensor>& inputs, uint64_t seed) {
  const auto gradient = [&](const std::vector<at::Tensor>& x) {
    const at::AutoGradMode grad_mode(true);
    std::vector<at::Tensor> leaves;
    for (const auto& tensor : x)
      leaves.push_back(tensor.requires_grad() ? tensor : tensor.detach().requires_grad_(true));
    return torch::autograd::grad({functional(function, leaves, seed)}, leaves, {}, true, /*create_graph=*/true, true);
  };
  return gradcheck(gradient, inputs, seed + 100);
}

}  // namespace hopfield::testing
