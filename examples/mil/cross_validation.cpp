#include "cross_validation.h"

#include "common/signals.h"

#include <ATen/Parallel.h>

#include <fmt/format.h>

#include <atomic>
#include <cmath>
#include <exception>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <system_error>
#include <thread>

namespace hopfield::mil {
namespace {

/// Does `count` pieces of work on `threads` threads. `make(i)` returns the function that does piece i; it is called for
/// one i after the other, never at the same time. Within a piece LibTorch uses one thread only, so that the results do
/// not depend on `threads`. The first exception sets `stopping`, ends the work and is thrown again.
template <typename Make>
void for_each_in_parallel(int64_t count, int64_t threads, std::atomic<bool>& stopping, const Make& make) {
  int64_t next = 0;
  std::exception_ptr failure;
  std::mutex mutex;
  const auto loop = [&] {
    at::set_num_threads(1);
    try {
      for (;;) {
        std::unique_lock<std::mutex> lock(mutex);
        if (next == count || stopping || examples::interrupted()) return;
        const auto work = make(next++);
        lock.unlock();
        work();
      }
    } catch (...) {
      const std::lock_guard<std::mutex> lock(mutex);
      if (!failure) failure = std::current_exception();
      stopping = true;
    }
  };
  std::vector<std::thread> workers;
  try {
    for (int64_t i = 0; i < std::min(count, threads); ++i) workers.emplace_back(loop);
  } catch (const std::system_error&) {
    if (workers.empty()) throw;  // otherwise the threads that the system did start do all the work
  }
  for (auto& worker : workers) worker.join();
  if (failure) std::rethrow_exception(failure);
}

/// One training of a run: of a fold, or of the model to save.
struct Training {
  int64_t part;      ///< its part of the checkpoint
  std::string name;  ///< its name in messages
  std::unique_ptr<FoldRun> run;
};

class CrossValidation {
 public:
  CrossValidation(const data::MilTable& table, const TrainOptions& options, examples::RunCheckpoint& checkpoint,
                  examples::Progress& progress)
      : table_(table), options_(options), checkpoint_(checkpoint), progress_(progress) {}

  /// Trains and tests all folds. Nothing if the run was interrupted.
  std::optional<std::vector<FoldResult>> test_folds();
  /// Trains a model on all bags. Nothing if the run was interrupted.
  std::optional<TrainedModel> train_on_everything();

 private:
  /// Makes a training and restores its state from the checkpoint if it has one. The initial weights are drawn from
  /// LibTorch's default generator, so this must be called for all parts in their order, finished ones included.
  Training make_training(int64_t part, const std::string& name, const data::Fold& fold);
  /// Trains until all epochs are done. False if the run was interrupted before.
  bool finish(Training& training);
  void check_finite(const Training& training, bool is_finite, const std::string& got) const;
  /// The scores of the test bags: those in the checkpoint if the fold was finished before, otherwise those of the model
  /// that is trained now. Undefined if the run was interrupted.
  at::Tensor scores_of(Training& training);
  void keep(int64_t part, io::SafetensorsFile state, bool is_finished);
  FoldResult make_result(int64_t repeat, int64_t fold, const std::vector<int64_t>& bags, at::Tensor scores) const;

  const data::MilTable& table_;
  const TrainOptions& options_;
  examples::RunCheckpoint& checkpoint_;
  examples::Progress& progress_;
  std::atomic<bool> stopping_{false};
};

Training CrossValidation::make_training(int64_t part, const std::string& name, const data::Fold& fold) {
  Training training{part, name, std::make_unique<FoldRun>(table_.bags, fold, options_, part)};
  const auto* kept = checkpoint_.find(part);
  if (kept && !kept->tensors.contains("scores")) {
    reading("--resume", [&] { training.run->restore(*kept, checkpoint_.path()); });
  }
  return training;
}

bool CrossValidation::finish(Training& training) {
  auto& run = *training.run;
  progress_.advance(run.epoch());
  while (!run.finished() && !stopping_ && !examples::interrupted()) {
    const auto loss = run.train_epoch();
    check_finite(training, std::isfinite(loss), fmt::format("a loss of {}", loss));
    progress_.advance();
    if (checkpoint_.enabled()) keep(training.part, run.snapshot(), false);
  }
  return run.finished();
}

void CrossValidation::check_finite(const Training& training, bool is_finite, const std::string& got) const {
  if (is_finite) return;
  throw std::runtime_error(fmt::format(
      "{}, epoch {}: the training diverged, expected finite numbers, got {}; choose a smaller --lr than {}{}",
      training.name, training.run->epoch(), got, options_.lr,
      options_.beta ? fmt::format(", or a --beta closer to 0 than {}", *options_.beta) : ""));
}

at::Tensor CrossValidation::scores_of(Training& training) {
  const auto bags = static_cast<int64_t>(training.run->fold().test.size());
  const auto* kept = checkpoint_.find(training.part);
  if (const auto* scores = kept ? kept->tensors.find("scores") : nullptr) {
    if (scores->dim() != 1 || scores->size(0) != bags || scores->scalar_type() != at::kFloat) {
      throw UsageError{fmt::format("--resume: expected scores of {} bags in the checkpoint, got others", bags)};
    }
    progress_.advance(options_.epochs);
    return *scores;
  }
  if (!finish(training)) return {};
  const auto scores = training.run->test_scores();
  check_finite(training, scores.isfinite().all().item<bool>(), "scores that are not finite");
  io::SafetensorsFile finished;
  finished.tensors.insert("scores", scores);
  keep(training.part, std::move(finished), true);
  return scores;
}

void CrossValidation::keep(int64_t part, io::SafetensorsFile state, bool is_finished) {
  const auto failure = checkpoint_.update(part, std::move(state), is_finished);
  if (!failure.empty()) progress_.warn("hopfield_mil: --checkpoint: " + failure + "; the run goes on and tries again");
}

FoldResult CrossValidation::make_result(int64_t repeat, int64_t fold, const std::vector<int64_t>& bags,
                                        at::Tensor scores) const {
  const auto labels = table_.labels().index_select(0, at::tensor(bags, at::kLong));
  return {repeat, fold, data::roc_auc(scores, labels), data::accuracy(scores, labels, 0.0), bags, std::move(scores)};
}

std::optional<std::vector<FoldResult>> CrossValidation::test_folds() {
  const auto repeats =
      data::repeated_stratified_folds(table_.labels(), options_.folds, options_.repeats, options_.seed);
  const auto count = options_.folds * options_.repeats;
  std::vector<std::optional<FoldResult>> results(count);
  for_each_in_parallel(count, options_.threads, stopping_, [&](int64_t i) {
    const auto repeat = i / options_.folds, fold = i % options_.folds;
    const auto name = fmt::format("repeat {} fold {:>2}/{}", repeat + 1, fold + 1, options_.folds);
    auto training = std::make_shared<Training>(make_training(i, name, repeats[repeat][fold]));
    return [this, &results, training, repeat, fold, i] {
      const examples::Stopwatch watch;
      const auto scores = scores_of(*training);
      if (!scores.defined()) return;
      results[i] = make_result(repeat, fold, training->run->fold().test, scores);
      progress_.line(fmt::format("{}: ROC AUC {:.4f}, accuracy {:.4f}, {:.1f} s", training->name, results[i]->auc,
                                 results[i]->accuracy, watch.seconds()));
    };
  });
  std::vector<FoldResult> all;
  for (auto& result : results) {
    if (!result) return std::nullopt;
    all.push_back(std::move(*result));
  }
  return all;
}

std::optional<TrainedModel> CrossValidation::train_on_everything() {
  data::Fold everything;
  for (size_t i = 0; i < table_.bags.size(); ++i) everything.train.push_back(static_cast<int64_t>(i));
  auto training = make_training(options_.folds * options_.repeats, "the model to save", everything);
  if (!finish(training)) return std::nullopt;
  return training.run->trained_model();
}

}  // namespace

Outcome cross_validate(const data::MilTable& table, const TrainOptions& options, examples::RunCheckpoint& checkpoint,
                       examples::Progress& progress) {
  CrossValidation run(table, options, checkpoint, progress);
  Outcome outcome;
  auto results = run.test_folds();
  if (!results) return outcome;
  outcome.results = std::move(*results);
  if (!options.save_model.empty()) {
    outcome.model = run.train_on_everything();
    if (!outcome.model) return outcome;
  }
  outcome.complete = true;
  return outcome;
}

}  // namespace hopfield::mil
