#pragma once

#include "fold_run.h"
#include "progress.h"

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

/// Trains and tests every fold of every repeat, several at a time, each as if it were alone. The results are ordered by
/// repeat and fold; nothing if Ctrl-C came first, in which case the checkpoint, if there is one, has been written.
std::optional<std::vector<FoldResult>> cross_validate(const data::MilTable& table, const TrainOptions& options,
                                                      Progress& progress);

/// A model trained on all bags; nothing if Ctrl-C came first.
std::optional<TrainedModel> train_on_everything(const data::MilTable& table, const TrainOptions& options,
                                                Progress& progress);

/// From here on Ctrl-C ends the work at the next epoch; a second one ends the program.
void catch_interrupts();

}  // namespace hopfield::mil
