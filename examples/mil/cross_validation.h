#pragma once

#include "common/progress.h"
#include "common/run_checkpoint.h"
#include "fold_run.h"

#include <optional>
#include <vector>

namespace hopfield::mil {

/// What came out for one test part.
struct FoldResult {
  int64_t repeat = 0, fold = 0;
  double auc = 0, accuracy = 0;
  std::vector<int64_t> bags;  ///< positions in the table
  at::Tensor scores;          ///< logits, in that order
};

/// What came out of a run, unless it was interrupted before it was complete.
struct Outcome {
  bool complete = false;
  std::vector<FoldResult> results;    ///< ordered by repeat and fold
  std::optional<TrainedModel> model;  ///< trained on all bags, if it is to be saved
};

/// Trains and tests every fold of every repeat, several at a time, each as if it were alone, and then the model to
/// save. Goes on from what the checkpoint kept, and keeps its state there. The caller writes the checkpoint at the end.
/// @throws std::runtime_error naming fold and epoch if a training diverges
Outcome cross_validate(const data::MilTable& table, const TrainOptions& options, examples::RunCheckpoint& checkpoint,
                       examples::Progress& progress);

}  // namespace hopfield::mil
