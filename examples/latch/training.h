#pragma once

#include "common/progress.h"
#include "options.h"

#include <ATen/core/Tensor.h>

#include <functional>
#include <string>
#include <vector>

namespace hopfield::latch {

/// Sequences or bags with a label each. The rows behind `trained` are for evaluation.
struct Task {
  std::string name;
  at::Tensor data;    // [samples, length, width] float32
  at::Tensor labels;  // [samples] float32, 0 or 1
  int64_t trained = 0;
  int64_t epochs = 0;
  // Of the layer.
  int64_t heads = 1, hidden = 0, update_steps = 0;
  double beta = 0;
  double dropout = 0;
  bool has_bias_pattern = false;  // one trained pattern beside the stored ones, which a query attends to if none fits
};

/// The tasks that the options ask for, with what is not set as in the examples of the authors' Python package.
std::vector<Task> make_tasks(const Options& options);

/// What came out after each epoch.
struct Epoch {
  double loss = 0, accuracy = 0;                        // of the training data, while it is learned
  double evaluation_loss = 0, evaluation_accuracy = 0;  // of the other data, afterwards
};

struct Run {
  std::string task, layer;
  std::vector<Epoch> epochs;
  double seconds = 0;
  bool complete = true;  // false: the program was asked to end

  /// The first epoch, from 1, after which at least 99 % of the other data were right; 0 if there was none.
  int64_t solved_after() const;
};

/// The names of the layers that the options ask for.
std::vector<std::string> layers_of(const Options& options);

/// Trains a network of one layer and one output neuron.
Run train(const Task& task, const std::string& layer, const Options& options, examples::Progress& progress);

}  // namespace hopfield::latch
