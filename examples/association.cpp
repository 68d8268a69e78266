// Associates two sets of different sizes and widths: five queries of width 6 and eight stored patterns of width 10. A
// layer is trained to find which pattern each query was made from, and its association matrix is printed.
//
//   build/cpu/bin/association
//
// Last lines:
//   query 4   0.00 0.00 0.00 0.00 0.97 0.00 0.03 0.00   most to pattern 4
//   5 of 5 queries found their pattern

#include <hopfield/hopfield.h>

#include <torch/torch.h>

#include <fmt/format.h>

namespace nn = hopfield::nn;

int main() {
  torch::manual_seed(1);
  // Query i is a linear map of pattern i, always the same one. The layer has to learn which query belongs to which
  // pattern.
  const auto view = torch::randn({10, 6});
  const auto make_pairs = [&] {
    const auto stored = torch::randn({32, 8, 10});
    return std::pair{stored, stored.slice(1, 0, 5).matmul(view)};
  };

  nn::Hopfield layer(nn::HopfieldOptions(6).stored_pattern_size(10).pattern_projection_size(10).hidden_size(16));
  torch::optim::AdamW optimizer(layer->parameters(), torch::optim::AdamWOptions(3e-3));
  const auto labels = torch::arange(5).repeat({32});
  for (int step = 0; step < 1000; ++step) {
    const auto [stored, state] = make_pairs();
    const auto found = layer->associate({state, stored}, {}, nn::AssociationRequest().with_association());
    const auto loss =
        torch::nn::functional::nll_loss((found.association.squeeze(1) + 1e-9).log().flatten(0, 1), labels);
    optimizer.zero_grad();
    loss.backward();
    optimizer.step();
  }

  const auto [stored, state] = make_pairs();
  const auto matrix = layer->get_association_matrix({state, stored})[0][0];  // [queries, patterns]
  int found = 0;
  for (int64_t query = 0; query < matrix.size(0); ++query) {
    fmt::print("query {}  ", query);
    for (int64_t pattern = 0; pattern < matrix.size(1); ++pattern)
      fmt::print(" {:.2f}", matrix[query][pattern].item<double>());
    const auto most = matrix[query].argmax().item<int64_t>();
    found += most == query;
    fmt::print("   most to pattern {}\n", most);
  }
  fmt::print("{} of {} queries found their pattern\n", found, matrix.size(0));
}
