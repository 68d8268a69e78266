// The first steps: a Hopfield layer in place of attention, pooling of a bag, retrieval of a stored pattern.
//
//   build/cpu/bin/quickstart
//
// Last lines:
//   [2, 10, 64] -> [2, 10, 64]
//   pooled: [2, 64]
//   pattern 3 came back after 2 updates, off by 0.0000
//   energy 23.89 before an update, 20.78 after it

#include <hopfield/hopfield.h>

#include <torch/torch.h>

#include <fmt/format.h>

int main() {
  namespace nn = hopfield::nn;
  torch::manual_seed(0);

  // In place of attention: 8 heads, at most three updates of the queries, then the read-out.
  nn::Hopfield layer(nn::HopfieldOptions(64).num_heads(8).scaling(0.25).update_steps_max(3));
  const auto x = torch::randn({2, 10, 64});
  const auto z = layer->forward(x);
  fmt::print("{} -> {}\n", c10::str(x.sizes()), c10::str(z.sizes()));

  // A bag of any size becomes one vector.
  nn::HopfieldPooling pool(nn::HopfieldPoolingOptions(64).num_heads(8));
  fmt::print("pooled: {}\n", c10::str(pool->forward(z).sizes()));

  // Without any module: store patterns, retrieve from a noisy one.
  const auto patterns = torch::randn({100, 64});
  const auto noisy = patterns.slice(0, 3, 4) + 0.3 * torch::randn({1, 64});
  const auto r = hopfield::retrieve(noisy, patterns, hopfield::RetrieveOptions().beta(8.0).until_converged());
  fmt::print("pattern 3 came back after {} updates, off by {:.4f}\n", r.steps.item<int64_t>(),
             (r.output - patterns[3]).abs().max().item<double>());

  // The mathematics as pure functions: an update never raises the energy.
  const auto beta = torch::tensor(8.0);
  const auto next = hopfield::core::update(noisy, patterns, beta);
  fmt::print("energy {:.2f} before an update, {:.2f} after it\n",
             hopfield::core::energy(noisy, patterns, beta).item<double>(),
             hopfield::core::energy(next, patterns, beta).item<double>());
}
