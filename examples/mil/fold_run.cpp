#include "fold_run.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <torch/nn/functional/loss.h>

#include <algorithm>

namespace hopfield::mil {
namespace {

/// A seed made of two numbers, such that neighbouring numbers give unrelated generators (SplitMix64).
uint64_t mix(uint64_t seed, uint64_t index) {
  auto z = seed + 0x9E3779B97F4A7C15u * (index + 1);
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

}  // namespace

FoldRun::FoldRun(const std::vector<Bag>& bags, data::Fold fold, const TrainOptions& options, int64_t index)
    : bags_(bags),
      fold_(std::move(fold)),
      options_(options),
      device_(options.device),
      model_(model_options(options, bags.front().instances.size(1))),
      optimizer_(model_->parameters(), torch::optim::AdamWOptions(options.lr)),
      generator_(at::make_generator<at::CPUGeneratorImpl>(mix(options.seed, static_cast<uint64_t>(index)))) {
  model_->to(device_);
  model_->set_generator(generator_);
}

const FoldRun::Prepared& FoldRun::prepared() {
  if (!prepared_) {
    auto train = data::select(bags_, fold_.train), test = data::select(bags_, fold_.test);
    auto standardizer = data::Standardizer::fit_with_missing(train);
    prepared_ = Prepared{standardizer, standardizer.apply_with_missing(std::move(train)),
                         standardizer.apply_with_missing(std::move(test))};
  }
  return *prepared_;
}

double FoldRun::train_epoch() {
  const auto& train = prepared().train;
  const auto count = static_cast<int64_t>(train.size());
  const auto order = at::randperm(count, generator_, at::kLong);
  model_->train();
  at::Tensor losses = at::zeros({}, at::device(device_));
  int64_t steps = 0;
  for (int64_t begin = 0; begin < count; begin += options_.batch) {
    std::vector<Bag> chosen;
    for (int64_t i = begin; i < std::min(begin + options_.batch, count); ++i) {
      const auto& bag = train[order.data_ptr<int64_t>()[i]];
      chosen.push_back(options_.bag_dropout > 0 ? data::drop_instances(bag, options_.bag_dropout, generator_) : bag);
    }
    const auto batch = BagBatch::from(chosen).to(device_);
    const auto logits = model_->forward(batch);
    const auto loss =
        torch::nn::functional::binary_cross_entropy_with_logits(logits, batch.labels.to(logits.scalar_type()));
    optimizer_.zero_grad();
    loss.backward();
    optimizer_.step();
    losses += loss.detach();
    ++steps;
  }
  auto& group = static_cast<torch::optim::AdamWOptions&>(optimizer_.param_groups().front().options());
  group.lr(group.lr() * options_.lr_decay);
  ++epoch_;
  return losses.item<double>() / static_cast<double>(steps);
}

at::Tensor FoldRun::test_scores() {
  torch::NoGradGuard no_grad;
  model_->eval();
  return model_->forward(BagBatch::from(prepared().test).to(device_)).to(at::kCPU);
}

TrainedModel FoldRun::trained_model() { return {model_, prepared().standardizer}; }

io::SafetensorsFile FoldRun::snapshot() const {
  auto file = io::make_checkpoint(*model_, optimizer_, {epoch_, {}}, {{"fold", generator_}});
  for (auto& entry : file.tensors) entry.value() = entry.value().clone();
  return file;
}

void FoldRun::restore(const io::SafetensorsFile& file, const std::string& source) {
  // The file has the state of the default generator, too, but runs that are made later draw their weights from it: its
  // state must not change.
  auto default_generator = at::detail::getDefaultCPUGenerator();
  const auto state = default_generator.get_state();
  epoch_ = io::restore_checkpoint(file, source, *model_, optimizer_, {{"fold", generator_}}).epoch;
  default_generator.set_state(state);
}

}  // namespace hopfield::mil
