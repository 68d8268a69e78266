#include "cross_validation.h"

#include "report.h"
#include "run_checkpoint.h"

#include <ATen/Parallel.h>

#include <fmt/format.h>

#include <atomic>
#include <csignal>
#include <exception>
#include <filesystem>
#include <memory>
#include <thread>

namespace hopfield::mil {
namespace {

std::atomic<bool> interrupted{false};

extern "C" void on_interrupt(int signal) {
  interrupted = true;
  std::signal(signal, SIG_DFL);
}

/// A run's place among the folds of all repeats.
struct Place {
  int64_t repeat, fold;
};

FoldResult make_result(const data::MilTable& table, const Place& place, const std::vector<int64_t>& bags,
                       at::Tensor scores) {
  const auto labels = table.labels().index_select(0, at::tensor(bags, at::kLong));
  return {place.repeat, place.fold,       data::roc_auc(scores, labels), data::accuracy(scores, labels, 0.0),
          bags,         std::move(scores)};
}

/// Runs `work(i)` for all i below `count` on `threads` threads. Nested parallelism is off: results must not depend on
/// the number of threads. The first exception ends the work and is thrown on.
template <typename Work>
void for_each_in_parallel(int64_t count, int64_t threads, const Work& work) {
  std::atomic<int64_t> next{0};
  std::exception_ptr failure;
  std::mutex mutex;
  const auto loop = [&] {
    at::set_num_threads(1);
    try {
      for (auto i = next++; i < count && !interrupted; i = next++) work(i);
    } catch (...) {
      const std::lock_guard<std::mutex> lock(mutex);
      if (!failure) failure = std::current_exception();
      next = count;
    }
  };
  std::vector<std::thread> workers;
  for (int64_t i = 0; i < std::min(count, threads); ++i) workers.emplace_back(loop);
  for (auto& worker : workers) worker.join();
  if (failure) std::rethrow_exception(failure);
}

/// Scores that a checkpoint kept of a finished fold, or undefined.
at::Tensor kept_scores(const io::SafetensorsFile* kept, size_t bags) {
  const auto* scores = kept ? kept->tensors.find("scores") : nullptr;
  if (!scores) return {};
  if (scores->dim() != 1 || scores->size(0) != static_cast<int64_t>(bags) || scores->scalar_type() != at::kFloat) {
    throw UsageError{"--resume: expected scores of " + std::to_string(bags) + " bags in the checkpoint, got others"};
  }
  return *scores;
}

}  // namespace

void catch_interrupts() {
  std::signal(SIGINT, on_interrupt);
  std::signal(SIGTERM, on_interrupt);
}

std::optional<std::vector<FoldResult>> cross_validate(const data::MilTable& table, const TrainOptions& options,
                                                      Progress& progress) {
  RunCheckpoint checkpoint(options.checkpoint, describe_run(table, options));
  if (options.resume) checkpoint.load();

  std::vector<Place> places;
  std::vector<std::unique_ptr<FoldRun>> runs;
  const auto repeats = data::repeated_stratified_folds(table.labels(), options.folds, options.repeats,
                                                       static_cast<uint64_t>(options.seed));
  for (size_t repeat = 0; repeat < repeats.size(); ++repeat) {
    for (size_t fold = 0; fold < repeats[repeat].size(); ++fold) {
      places.push_back({static_cast<int64_t>(repeat), static_cast<int64_t>(fold)});
      runs.push_back(
          std::make_unique<FoldRun>(table.bags, repeats[repeat][fold], options, static_cast<int64_t>(runs.size())));
    }
  }

  std::vector<const io::SafetensorsFile*> kept_of_fold;  // before the threads that add to it
  for (size_t i = 0; i < runs.size(); ++i) kept_of_fold.push_back(checkpoint.find(static_cast<int64_t>(i)));

  std::vector<std::optional<FoldResult>> results(runs.size());
  const auto work = [&](int64_t i) {
    auto& run = *runs[i];
    const Stopwatch watch;
    const auto* kept = kept_of_fold[i];
    auto scores = kept_scores(kept, run.fold().test.size());
    if (!scores.defined()) {
      if (kept) reading([&] { run.restore(*kept, checkpoint.path()); });
      for (auto epoch = run.epoch(); epoch > 0; --epoch) progress.advance();
      while (!run.finished() && !interrupted) {
        run.train_epoch();
        progress.advance();
        if (checkpoint.enabled()) checkpoint.update(i, run.snapshot());
      }
      if (!run.finished()) return;
      scores = run.test_scores();
      io::SafetensorsFile finished;
      finished.tensors.insert("scores", scores);
      checkpoint.update(i, std::move(finished));
    } else {
      for (int64_t epoch = 0; epoch < options.epochs; ++epoch) progress.advance();
    }
    results[i] = make_result(table, places[i], run.fold().test, scores);
    progress.line(fmt::format("repeat {} fold {:>2}/{}: ROC AUC {:.4f}, accuracy {:.4f}, {:.1f} s",
                              places[i].repeat + 1, places[i].fold + 1, options.folds, results[i]->auc,
                              results[i]->accuracy, watch.seconds()));
    runs[i].reset();
  };
  for_each_in_parallel(static_cast<int64_t>(runs.size()), options.threads, work);
  checkpoint.write();

  std::vector<FoldResult> all;
  for (auto& result : results) {
    if (!result) return std::nullopt;
    all.push_back(std::move(*result));
  }
  return all;
}

std::optional<TrainedModel> train_on_everything(const data::MilTable& table, const TrainOptions& options,
                                                Progress& progress) {
  data::Fold everything;
  for (size_t i = 0; i < table.bags.size(); ++i) everything.train.push_back(static_cast<int64_t>(i));
  FoldRun run(table.bags, everything, options, options.folds * options.repeats);
  while (!run.finished()) {
    if (interrupted) return std::nullopt;
    run.train_epoch();
    progress.advance();
  }
  return run.trained_model();
}

}  // namespace hopfield::mil
