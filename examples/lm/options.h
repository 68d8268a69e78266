#pragma once

#include "common/errors.h"
#include "common/run_checkpoint.h"

#include <cstdint>
#include <optional>
#include <string>

namespace hopfield::lm {

using examples::reading;
using examples::UsageError;

constexpr const char* kDefaultText = "/usr/share/common-licenses/GPL-3";  // on every Debian system

/// The sizes of a model, and how its attention updates.
struct ModelOptions {
  int64_t layers = 2, heads = 4, width = 128, context = 128;
  int64_t update_steps = 0;
  std::optional<double> beta;  // not set: 1 / sqrt(width of a head)
  bool learns_beta = false;
};

struct TrainOptions {
  std::string text = kDefaultText;
  std::string attention = "hopfield";  // or torch, or both side by side
  std::string type = "float32";
  ModelOptions model;
  int64_t steps = 500, batch = 16, evaluations = 10, sample = 200;
  double lr = 1e-3;
  uint64_t seed = 0;
  int64_t threads = 0;  // 0: as LibTorch chooses
  examples::CheckpointOptions checkpoint;
  std::string chart, json, save_model;
  std::string command;  // the whole command line
  bool quiet = false;

  bool has(const char* name) const { return attention == name || attention == "both"; }
};

struct SampleOptions {
  std::string model, prompt = "The ";
  int64_t length = 400;
  double temperature = 0.7;
  uint64_t seed = 0;
};

/// What the command line asks for.
struct Request {
  TrainOptions train;
  std::optional<SampleOptions> sample;  // if set, nothing is trained
};

/// Reads the command line. Returns nothing after --help and --version, whose text it prints.
/// @throws UsageError if the call is wrong
std::optional<Request> parse_command_line(int argc, char** argv);

}  // namespace hopfield::lm
