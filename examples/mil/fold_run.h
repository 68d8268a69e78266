#pragma once

#include "model.h"

#include <ATen/core/Generator.h>
#include <torch/optim/adamw.h>

#include <optional>
#include <vector>

namespace hopfield::mil {

/// Trains one model on one split. It owns everything that its results depend on, also the random generator, so runs in
/// other threads do not influence it.
class FoldRun {
 public:
  /// Draws the initial weights from LibTorch's default generator, so runs must be created one after the other.
  /// @param fold   its test part may be empty; there are no test scores then
  /// @param index  makes the generators of runs with the same seed different
  FoldRun(const std::vector<Bag>& bags, data::Fold fold, const TrainOptions& options, int64_t index);

  bool finished() const { return epoch_ == options_.epochs; }
  int64_t epoch() const { return epoch_; }
  /// Trains for one epoch and returns the mean loss of its steps.
  double train_epoch();
  /// Logits of the test bags, in the order of fold().test.
  at::Tensor test_scores();
  TrainedModel trained_model();

  /// Saves the state of the run between two epochs, and restores it. LibTorch's default generator stays as it is.
  /// @param source  names the file in error messages
  /// @throws c10::Error if `file` is of another run
  io::SafetensorsFile snapshot() const;
  void restore(const io::SafetensorsFile& file, const std::string& source);

  const data::Fold& fold() const { return fold_; }

 private:
  /// Standardised bags. They are made when they are first needed, by the thread that needs them.
  struct Prepared {
    data::Standardizer standardizer;
    std::vector<Bag> train, test;
  };
  const Prepared& prepared();

  const std::vector<Bag>& bags_;
  data::Fold fold_;
  const TrainOptions& options_;
  at::Device device_;
  MilModel model_;
  torch::optim::AdamW optimizer_;
  at::Generator generator_;
  int64_t epoch_ = 0;
  std::optional<Prepared> prepared_;
};

}  // namespace hopfield::mil
