#pragma once

#include <hopfield/nn/transformer.h>

#include <functional>

namespace hopfield::nn {

/// Linear, activation, dropout, linear, dropout: the feed-forward half of a transformer layer. Its modules belong to
/// the layer, which has them under the names of the Python package.
class FeedForward {
 public:
  /// Registers the modules in `owner`. Messages begin with `function`.
  FeedForward(torch::nn::Module& owner, int64_t size, const FeedForwardSettings& settings, const char* function);
  void reset_parameters();
  at::Tensor forward(const at::Tensor& input);

 private:
  torch::nn::Linear linear_residual_{nullptr}, linear_output_{nullptr};
  torch::nn::Dropout dropout_residual_{nullptr}, dropout_output_{nullptr};
  std::function<at::Tensor(const at::Tensor&)> activation_;
};

}  // namespace hopfield::nn
