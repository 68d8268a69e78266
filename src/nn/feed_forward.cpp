#include "nn/feed_forward.h"

#include "nn/activation.h"

namespace hopfield::nn {

FeedForward::FeedForward(torch::nn::Module& owner, int64_t size, const FeedForwardSettings& settings,
                         const char* function) {
  TORCH_CHECK(settings.dim_feedforward > 0, function, ": expected dim_feedforward to be positive, got ",
              settings.dim_feedforward);
  TORCH_CHECK(settings.dropout >= 0 && settings.dropout <= 1, function,
              ": expected dropout to be between 0 and 1, got ", settings.dropout);
  activation_ = elementwise_function(settings.activation, function, "activation");
  linear_residual_ = owner.register_module("linear_residual", torch::nn::Linear(size, settings.dim_feedforward));
  dropout_residual_ = owner.register_module("dropout_residual", torch::nn::Dropout(settings.dropout));
  linear_output_ = owner.register_module("linear_output", torch::nn::Linear(settings.dim_feedforward, size));
  dropout_output_ = owner.register_module("dropout_output", torch::nn::Dropout(settings.dropout));
}

void FeedForward::reset_parameters() {
  linear_residual_->reset_parameters();
  linear_output_->reset_parameters();
}

at::Tensor FeedForward::forward(const at::Tensor& input) {
  const auto inner = dropout_residual_->forward(activation_(linear_residual_->forward(input)));
  return dropout_output_->forward(linear_output_->forward(inner));
}

}  // namespace hopfield::nn
