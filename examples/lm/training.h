#pragma once

#include "common/progress.h"
#include "common/run_checkpoint.h"
#include "model.h"

#include <torch/optim/adamw.h>

#include <array>
#include <vector>

namespace hopfield::lm {

/// What a run has measured so far.
struct History {
  std::vector<double> losses;  // of each step, in nats for a character
  struct Evaluation {
    int64_t step = 0;
    double loss = 0;
    std::array<int64_t, 4> heads{};  // how many heads of all layers are of class I to IV; Hopfield layers only
  };
  std::vector<Evaluation> evaluations;
  double seconds = 0;  // of training steps alone
};

/// The training of one model.
class Training {
 public:
  /// @param initial  whose weights the model begins with
  Training(const Corpus& corpus, const TrainOptions& options, const LanguageModelImpl& initial, bool uses_torch);

  const char* name() const { return uses_torch_ ? "torch" : "hopfield"; }
  bool uses_torch() const { return uses_torch_; }
  int64_t step() const { return static_cast<int64_t>(history_.losses.size()); }
  const History& history() const { return history_; }
  LanguageModel& model() { return model_; }

  void train_step();
  /// Finds the loss on the part of the text that is not learned, and the classes of the heads.
  void evaluate();

  io::SafetensorsFile snapshot() const;
  /// @throws c10::Error if `file` is of another run
  void restore(const io::SafetensorsFile& file, const std::string& source);

 private:
  const Corpus& corpus_;
  const TrainOptions& options_;
  bool uses_torch_;
  LanguageModel model_;
  torch::optim::AdamW optimizer_;
  at::Tensor evaluated_;  // windows [n, context + 1]
  History history_;
};

/// The trainings that the options ask for, from the same weights.
std::vector<Training> make_trainings(const Corpus& corpus, const TrainOptions& options);

/// Trains all of them, step by step in turn, from where they are. Returns false if the program was asked to end.
bool train(std::vector<Training>& trainings, const TrainOptions& options, examples::RunCheckpoint& checkpoint,
           examples::Progress& progress);

}  // namespace hopfield::lm
