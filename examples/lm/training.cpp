#include "training.h"

#include "common/report.h"
#include "common/signals.h"
#include <hopfield/io/checkpoint.h>

#include <ATen/ATen.h>
#include <torch/nn/utils/clip_grad.h>
#include <torch/utils.h>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>

namespace hopfield::lm {
namespace {

using Json = nlohmann::ordered_json;

constexpr int64_t kEvaluated = 16;  // windows

at::ScalarType scalar_type(const TrainOptions& options) { return options.type == "float64" ? at::kDouble : at::kFloat; }

std::string text_of(const History& history) {
  auto evaluations = Json::array();
  for (const auto& e : history.evaluations)
    evaluations.push_back({{"step", e.step}, {"loss", e.loss}, {"heads", e.heads}});
  const Json json{{"losses", history.losses}, {"evaluations", evaluations}, {"seconds", history.seconds}};
  return examples::json_text(json, -1);
}

History history_from(const std::string& text) {
  const auto json = Json::parse(text);
  History history;
  history.losses = json.at("losses").get<std::vector<double>>();
  history.seconds = json.at("seconds").get<double>();
  for (const auto& e : json.at("evaluations")) {
    history.evaluations.push_back({e.at("step"), e.at("loss"), e.at("heads").get<std::array<int64_t, 4>>()});
  }
  return history;
}

std::string evaluation_line(const Training& training) {
  const auto& e = training.history().evaluations.back();
  auto line = fmt::format("step {:>5}  {:<8}  loss {:.4f}, on the rest of the text {:.4f}", e.step, training.name(),
                          training.history().losses.back(), e.loss);
  if (!training.uses_torch()) {
    line += fmt::format(", heads of class I {}, II {}, III {}, IV {}", e.heads[0], e.heads[1], e.heads[2], e.heads[3]);
  }
  return line;
}

}  // namespace

Training::Training(const Corpus& corpus, const TrainOptions& options, const LanguageModelImpl& initial, bool uses_torch)
    : corpus_(corpus),
      options_(options),
      uses_torch_(uses_torch),
      model_([&] {
        LanguageModel model(corpus.vocabulary.size(), options.model, uses_torch);
        model->to(scalar_type(options));
        if (uses_torch) {
          const at::NoGradGuard no_grad;
          auto parameters = model->named_parameters();
          for (const auto& entry : initial.named_parameters()) parameters[entry.key()].copy_(entry.value());
        } else {
          model->copy_from(initial);
        }
        return model;
      }()),
      optimizer_(model_->parameters(), torch::optim::AdamWOptions(options.lr)),
      evaluated_(draw_windows(corpus.evaluation, kEvaluated, options.model.context, 0)) {}

void Training::train_step() {
  const examples::Stopwatch watch;
  // Where a run goes on does not matter: the batch of a step depends on the seed and the step alone.
  const auto seed = options_.seed * 1000003 + static_cast<uint64_t>(step()) + 1;
  const auto loss = model_->loss(draw_windows(corpus_.train, options_.batch, options_.model.context, seed));
  optimizer_.zero_grad();
  loss.backward();
  torch::nn::utils::clip_grad_norm_(model_->parameters(), 1.0);
  optimizer_.step();
  history_.losses.push_back(loss.item<double>());
  history_.seconds += watch.seconds();
}

void Training::evaluate() {
  const at::NoGradGuard no_grad;
  History::Evaluation evaluation;
  evaluation.step = step();
  evaluation.loss = model_->loss(evaluated_).item<double>();
  for (const auto& layer : model_->head_classes(evaluated_.slice(1, 0, options_.model.context))) {
    for (int64_t head = 0; head < layer.classes.size(0); ++head) {
      const auto number = layer.classes[head].item<int64_t>();
      if (number > 0) ++evaluation.heads[static_cast<size_t>(number - 1)];
    }
  }
  history_.evaluations.push_back(evaluation);
}

io::SafetensorsFile Training::snapshot() const {
  auto file = io::make_checkpoint(*model_, optimizer_, {step(), {{"history", text_of(history_)}}});
  for (auto& entry : file.tensors) entry.value() = entry.value().clone();
  return file;
}

void Training::restore(const io::SafetensorsFile& file, const std::string& source) {
  const auto info = io::restore_checkpoint(file, source, *model_, optimizer_);
  history_ = history_from(info.metadata.at("history"));
}

std::vector<Training> make_trainings(const Corpus& corpus, const TrainOptions& options) {
  torch::manual_seed(options.seed);
  LanguageModel initial(corpus.vocabulary.size(), options.model, /*uses_torch=*/true);
  initial->to(scalar_type(options));
  std::vector<Training> trainings;
  trainings.reserve(2);
  if (options.has("hopfield")) trainings.emplace_back(corpus, options, *initial, false);
  if (options.has("torch")) trainings.emplace_back(corpus, options, *initial, true);
  return trainings;
}

bool train(std::vector<Training>& trainings, const TrainOptions& options, examples::RunCheckpoint& checkpoint,
           examples::Progress& progress) {
  const auto keep = [&](bool finished) {
    for (size_t i = 0; i < trainings.size() && checkpoint.enabled(); ++i) {
      const auto failure = checkpoint.update(static_cast<int64_t>(i), trainings[i].snapshot(), finished);
      if (!failure.empty()) progress.warn("--checkpoint: " + failure);
    }
  };
  constexpr int64_t kStepsBetweenSnapshots = 20;
  const auto every = std::max<int64_t>(1, options.steps / options.evaluations);
  for (auto step = trainings.front().step(); step < options.steps;) {
    if (examples::interrupted()) {
      keep(true);
      return false;
    }
    ++step;
    for (auto& training : trainings) training.train_step();
    if (step % every == 0 || step == options.steps) {
      for (auto& training : trainings) {
        training.evaluate();
        progress.line(evaluation_line(training));
      }
    }
    if (step % kStepsBetweenSnapshots == 0 || step == options.steps) keep(step == options.steps);
    progress.advance();
  }
  return true;
}

}  // namespace hopfield::lm
