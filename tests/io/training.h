#pragma once

#include "io/files.h"
#include <hopfield/io/checkpoint.h>

#include <ATen/CPUGeneratorImpl.h>
#include <torch/nn/modules/batchnorm.h>
#include <torch/nn/modules/dropout.h>
#include <torch/nn/modules/linear.h>
#include <torch/optim/adam.h>
#include <torch/optim/adamw.h>
#include <torch/optim/sgd.h>

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

/// A small run of training with every kind of state that a checkpoint has to keep.
namespace io_test {

/// Buffers that training changes, a layer that draws random numbers, and a parameter that never has a gradient.
struct NetImpl : torch::nn::Module {
  explicit NetImpl(int64_t hidden = 6) {
    first = register_module("first", torch::nn::Linear(4, hidden));
    norm = register_module("norm", torch::nn::BatchNorm1d(hidden));
    dropout = register_module("dropout", torch::nn::Dropout(0.3));
    second = register_module("second", torch::nn::Linear(hidden, 2));
    unused = register_parameter("unused", torch::ones({3}));
  }
  torch::Tensor forward(const torch::Tensor& input) {
    return second->forward(dropout->forward(torch::relu(norm->forward(first->forward(input)))));
  }
  torch::nn::Linear first{nullptr}, second{nullptr};
  torch::nn::BatchNorm1d norm{nullptr};
  torch::nn::Dropout dropout{nullptr};
  torch::Tensor unused;
};
TORCH_MODULE(Net);

using MakeOptimizer = std::function<std::unique_ptr<torch::optim::Optimizer>(Net&)>;

/// Two groups, the second with a learning rate of its own.
template <typename Optimizer, typename Options>
MakeOptimizer make(const Options& options) {
  return [options](Net& net) -> std::unique_ptr<torch::optim::Optimizer> {
    auto other = options;
    other.lr(options.lr() / 3);
    std::vector<torch::optim::OptimizerParamGroup> groups;
    groups.emplace_back(net->first->parameters(), std::make_unique<Options>(options));
    auto rest = net->second->parameters();
    for (const auto& parameter : net->norm->parameters()) rest.push_back(parameter);
    rest.push_back(net->unused);
    groups.emplace_back(rest, std::make_unique<Options>(other));
    return std::make_unique<Optimizer>(groups, options);
  };
}

inline const std::vector<std::pair<std::string, MakeOptimizer>> kOptimizers{
    {"Adam", make<torch::optim::Adam>(torch::optim::AdamOptions(1e-2))},
    {"Adam with all options",
     make<torch::optim::Adam>(
         torch::optim::AdamOptions(1.0 / 3).betas({0.8, 0.95}).eps(1e-7).weight_decay(0.1).amsgrad(true))},
    {"AdamW", make<torch::optim::AdamW>(torch::optim::AdamWOptions(1e-2))},
    {"AdamW with amsgrad", make<torch::optim::AdamW>(torch::optim::AdamWOptions(1e-2).amsgrad(true).weight_decay(0.3))},
    {"SGD", make<torch::optim::SGD>(torch::optim::SGDOptions(0.1))},
    {"SGD with momentum",
     make<torch::optim::SGD>(torch::optim::SGDOptions(0.1).momentum(0.9).dampening(0.1).weight_decay(0.01))},
    {"SGD with Nesterov", make<torch::optim::SGD>(torch::optim::SGDOptions(0.1).momentum(0.7).nesterov(true))},
};

/// A run of training: the state that is saved, and the steps that it makes.
struct Training {
  explicit Training(const MakeOptimizer& make_optimizer, uint64_t seed = 1, int64_t hidden = 6) {
    torch::manual_seed(seed);
    net = Net(hidden);
    optimizer = make_optimizer(net);
    data = at::detail::createCPUGenerator(seed);
  }

  void step() {
    optimizer->zero_grad();
    const auto input = torch::randn({8, 4}, data);
    net->forward(input).square().mean().backward();
    optimizer->step();
    for (auto& group : optimizer->param_groups()) group.options().set_lr(group.options().get_lr() * 0.9);
  }

  void save(const std::string& path) const {
    hopfield::io::save_checkpoint(path, *net, *optimizer, {3, {{"note", "x"}}}, {{"data", data}});
  }
  hopfield::io::CheckpointInfo load(const std::string& path) {
    return hopfield::io::load_checkpoint(path, *net, *optimizer, {{"data", data}});
  }

  /// Everything a run consists of.
  std::string bytes() const {
    const TemporaryFolder folder;
    save(folder.file("f"));
    return read_bytes(folder.file("f"));
  }

  Net net{nullptr};
  std::unique_ptr<torch::optim::Optimizer> optimizer;
  at::Generator data;
};

}  // namespace io_test
