#pragma once

#include "common/errors.h"
#include "common/run_checkpoint.h"
#include "data_options.h"

#include <cstdint>
#include <optional>
#include <string>

namespace hopfield::mil {

using examples::reading;
using examples::UsageError;

/// The options of `hopfield_mil`: cross-validation, and training of a model to save.
struct TrainOptions {
  std::string data;
  DataOptions csv;
  std::string command;  // the whole command line
  int64_t folds = 10, repeats = 1;
  uint64_t seed = 0;
  int64_t epochs = 40, batch = 4;
  double lr = 1e-3, lr_decay = 0.98;
  int64_t embedding = 64, heads = 8, hidden = 32;
  std::optional<double> beta;  // default: 1 / sqrt(hidden)
  int64_t update_steps = 0;    // -1: until converged
  double dropout = 0.5, embedding_dropout = 0.2, bag_dropout = 0.0;
  int64_t threads = 0;  // 0: one for each core
  std::string device = "cpu";
  examples::CheckpointOptions checkpoint;
  std::string save_model, json, scores;
  bool quiet = false;

  int64_t trainings() const { return folds * repeats + (save_model.empty() ? 0 : 1); }
};

/// The options of `hopfield_mil predict`.
struct PredictOptions {
  std::string model, data, scores;
  DataOptions csv;
  int64_t top = 3;
  std::string device = "cpu";
  bool quiet = false;
};

/// What the command line asks for: `predict` if it is set, otherwise `train`.
struct Request {
  TrainOptions train;
  std::optional<PredictOptions> predict;
};

/// Reads the command line. Returns nothing after --help and --version, whose text it prints.
/// @throws UsageError if the call is wrong
std::optional<Request> parse_command_line(int argc, char** argv);

/// The path of a benchmark's file, or the path itself if it was given. @throws UsageError if there is no such file
std::string resolve_data(const std::string& name_or_path);

/// The name of the data in reports: the path without folders and ending.
std::string data_title(const std::string& name_or_path);

}  // namespace hopfield::mil
