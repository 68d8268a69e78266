#pragma once

#include "model.h"

#include <ATen/core/Generator.h>
#include <torch/optim/adamw.h>

#include <optional>
#include <vector>

namespace hopfield::mil {

/// One model's training on one split. Owns everything that decides how it goes on: two runs with the same beginning end
/// alike, whatever runs beside them.
class FoldRun {
 public:
  /// Draws the weights from LibTorch's default generator: create runs one after the other. `index` tells runs of one
  /// seed apart. An empty test part: no scores.
  FoldRun(const std::vector<Bag>& bags, data::Fold fold, const TrainOptions& options, int64_t index);

  bool finished() const { return epoch_ == options_.epochs; }
  int64_t epoch() const { return epoch_; }
  /// Returns the mean of the loss over the training steps.
  double train_epoch();
  /// Logits of the test bags, in the order of fold().test.
  at::Tensor test_scores();
  TrainedModel trained_model();

  /// The run between two epochs, and back; LibTorch's default generator is left as it is.
  /// @throws c10::Error if `file` is of another run
  io::SafetensorsFile snapshot() const;
  void restore(const io::SafetensorsFile& file, const std::string& source);

  const data::Fold& fold() const { return fold_; }

 private:
  /// Standardised bags on the device; made by the thread that first needs them.
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
