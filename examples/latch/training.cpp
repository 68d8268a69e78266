#include "training.h"

#include "common/signals.h"
#include <hopfield/data/bit_patterns.h>
#include <hopfield/data/latch.h>
#include <hopfield/nn/hopfield.h>
#include <hopfield/nn/hopfield_pooling.h>

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <torch/nn/functional/loss.h>
#include <torch/nn/modules/container/sequential.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/utils/clip_grad.h>
#include <torch/optim/adamw.h>
#include <torch/utils.h>

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace hopfield::latch {
namespace {

constexpr double kSolved = 0.99;

at::Generator generator_for(uint64_t seed) { return at::make_generator<at::CPUGeneratorImpl>(seed); }

/// The samples in random order, of which the last eighth is for evaluation.
Task make_task(const char* name, const at::Tensor& data, const at::Tensor& labels, uint64_t seed) {
  const auto order = at::randperm(labels.size(0), generator_for(seed + 1), at::kLong);
  Task task;
  task.name = name;
  task.data = data.index_select(0, order);
  task.labels = labels.index_select(0, order);
  task.trained = labels.size(0) - labels.size(0) / 8;
  return task;
}

Task latch_task(const Options& o) {
  const auto options = data::LatchSequenceOptions(o.samples.value_or(4096))
                           .num_instances(o.length.value_or(20))
                           .num_characters(o.characters)
                           .seed(o.seed);
  const data::LatchSequenceSet set(options);
  auto task = make_task("latch", set.data(), set.targets(), o.seed);
  task.dropout = o.dropout;
  task.epochs = o.epochs.value_or(20);
  task.heads = o.heads.value_or(1);
  task.hidden = o.hidden.value_or(o.characters);
  task.update_steps = o.update_steps.value_or(0);
  task.beta = o.beta.value_or(1 / std::sqrt(static_cast<double>(task.hidden)));
  task.has_bias_pattern = o.bias_pattern.value_or("no") == "yes";
  return task;
}

Task bits_task(const Options& o) {
  const auto options = data::BitPatternOptions(o.samples.value_or(2048), o.length.value_or(16), o.signals)
                           .num_bits(o.bits)
                           .seed_signals(o.seed)
                           .seed_data(o.seed + 1);
  const data::BitPatternSet set(options);
  auto task = make_task("bits", set.data(), set.targets(), o.seed);
  task.dropout = o.dropout;
  task.epochs = o.epochs.value_or(250);
  task.heads = o.heads.value_or(8);
  task.hidden = o.hidden.value_or(16);
  task.update_steps = o.update_steps.value_or(3);
  task.beta = o.beta.value_or(1.0);
  task.has_bias_pattern = o.bias_pattern.value_or("yes") == "yes";
  return task;
}

template <typename LayerOptions>
LayerOptions layer_options(const Task& task) {
  LayerOptions options(task.data.size(2));
  options.num_heads(task.heads).hidden_size(task.hidden).update_steps_max(task.update_steps).scaling(task.beta);
  options.concat_bias_pattern(task.has_bias_pattern).dropout(task.dropout);
  return options;
}

/// A layer and one output neuron: Hopfield associates all positions with each other, and the neuron sees all of them;
/// HopfieldPooling makes one vector of them.
class Network {
 public:
  Network(const Task& task, const std::string& layer) {
    const auto length = task.data.size(1), width = task.data.size(2);
    if (layer == "pooling") {
      sequential_->push_back(nn::HopfieldPooling(layer_options<nn::HopfieldPoolingOptions>(task)));
      sequential_->push_back(torch::nn::Linear(width, 1));
    } else {
      sequential_->push_back(nn::Hopfield(layer_options<nn::HopfieldOptions>(task)));
      sequential_->push_back(torch::nn::Flatten());
      sequential_->push_back(torch::nn::Linear(length * width, 1));
    }
  }

  torch::nn::Sequential& module() { return sequential_; }
  at::Tensor logits(const at::Tensor& data) { return sequential_->forward(data).flatten(); }

 private:
  torch::nn::Sequential sequential_;
};

/// Loss times the number of samples, and how many are right.
struct Outcome {
  at::Tensor loss;
  double right;
};

Outcome outcome_of(const at::Tensor& logits, const at::Tensor& labels) {
  return {torch::nn::functional::binary_cross_entropy_with_logits(logits, labels),
          logits.gt(0).eq(labels.gt(0.5)).sum().item<double>()};
}

Epoch train_epoch(Network& network, const Task& task, torch::optim::AdamW& optimizer, at::Generator generator,
                  const Options& o) {
  Epoch epoch;
  network.module()->train();
  const auto order = at::randperm(task.trained, generator, at::kLong);
  const auto count = static_cast<double>(task.trained);
  for (int64_t first = 0; first < task.trained; first += o.batch) {
    const auto chosen = order.slice(0, first, std::min(first + o.batch, task.trained));
    const auto labels = task.labels.index_select(0, chosen);
    const auto [loss, right] = outcome_of(network.logits(task.data.index_select(0, chosen)), labels);
    optimizer.zero_grad();
    loss.backward();
    torch::nn::utils::clip_grad_norm_(network.module()->parameters(), 1.0);
    optimizer.step();
    epoch.loss += loss.item<double>() * static_cast<double>(chosen.size(0)) / count;
    epoch.accuracy += right / count;
  }
  network.module()->eval();
  const at::NoGradGuard no_grad;
  const auto labels = task.labels.slice(0, task.trained);
  const auto [loss, right] = outcome_of(network.logits(task.data.slice(0, task.trained)), labels);
  epoch.evaluation_loss = loss.item<double>();
  epoch.evaluation_accuracy = right / static_cast<double>(labels.size(0));
  return epoch;
}

}  // namespace

std::vector<Task> make_tasks(const Options& options) {
  std::vector<Task> tasks;
  if (options.task != "bits") tasks.push_back(latch_task(options));
  if (options.task != "latch") tasks.push_back(bits_task(options));
  return tasks;
}

std::vector<std::string> layers_of(const Options& options) {
  if (options.layer != "all") return {options.layer};
  return {"hopfield", "pooling"};
}

int64_t Run::solved_after() const {
  for (size_t i = 0; i < epochs.size(); ++i) {
    if (epochs[i].evaluation_accuracy >= kSolved) return static_cast<int64_t>(i + 1);
  }
  return 0;
}

Run train(const Task& task, const std::string& layer, const Options& options, examples::Progress& progress) {
  Run run{task.name, layer, {}};
  torch::manual_seed(options.seed);
  Network network(task, layer);
  torch::optim::AdamW optimizer(network.module()->parameters(), torch::optim::AdamWOptions(options.lr));
  const auto generator = generator_for(options.seed);
  const examples::Stopwatch watch;
  for (int64_t number = 1; number <= task.epochs; ++number) {
    if (examples::interrupted()) {
      run.complete = false;
      break;
    }
    run.epochs.push_back(train_epoch(network, task, optimizer, generator, options));
    const auto& epoch = run.epochs.back();
    progress.line(fmt::format(
        "{:<5} {:<8} epoch {:>3}: loss {:.4f}, accuracy {:.4f}; other data: loss {:.4f}, accuracy {:.4f}", task.name,
        layer, number, epoch.loss, epoch.accuracy, epoch.evaluation_loss, epoch.evaluation_accuracy));
    progress.advance();
  }
  run.seconds = watch.seconds();
  return run;
}

}  // namespace hopfield::latch
