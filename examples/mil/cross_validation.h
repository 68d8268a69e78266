#pragma once

#include "common/progress.h"
#include "common/run_checkpoint.h"
#include "fold_run.h"

#include <optional>
#include <vector>

namespace hopfield::mil {

/// The results of one fold.
struct FoldResult {
  int64_t repeat = 0, fold = 0;
  double auc = 0, accuracy = 0;
  std::vector<int64_t> bags;  ///< positions of the test bags in the table
  at::Tensor scores;          ///< [bags] their logits
};

/// The results of a run.
struct Outcome {
  bool complete = false;              ///< false if the run was interrupted; the other members may then be empty
  std::vector<FoldResult> results;    ///< ordered by repeat and fold
  std::optional<TrainedModel> model;  ///< trained on all bags, if it is to be saved
};

/// Trains and tests every fold of every repeat, several at a time, and then trains the model to save. Results do not
/// depend on how many run at a time. The run starts from the states in the checkpoint and keeps its own there; the
/// caller writes the checkpoint at the end.
/// @throws std::runtime_error naming fold and epoch if a training diverges
Outcome cross_validate(const data::MilTable& table, const TrainOptions& options, examples::RunCheckpoint& checkpoint,
                       examples::Progress& progress);

}  // namespace hopfield::mil
