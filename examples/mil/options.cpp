#include "options.h"

#include "common/command_line.h"
#include "common/device.h"
#include "common/options.h"
#include "common/text.h"
#include <hopfield/version.h>

#include <torch/version.h>

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <thread>
#include <vector>

namespace hopfield::mil {
namespace {

namespace fs = std::filesystem;
using examples::add_file;
using examples::add_number;
using examples::add_whole_number;
using examples::kProbability;

constexpr auto kBenchmarks =
    "birds_brown_creeper, corel_dogs, elephant, musk1, musk2, protein, ucsb_breast_cancer, web_recommendation_1";
constexpr int64_t kMostTrainings = 100000, kMostWidth = 65536;

fs::path data_folder() {
  const char* given = std::getenv("HOPFIELD_DATA");
  return given != nullptr ? fs::path(given) : fs::path(HOPFIELD_DATA_DIR) / "mil";
}

CLI::Option* add_data(CLI::App& app, std::string& data, const std::string& description) {
  return examples::add_text(app, "--data", data, "a benchmark's name or a CSV file", description)
      ->type_name("NAME|FILE");
}

void add_model_options(CLI::App& app, TrainOptions& o) {
  add_whole_number(app, "--embedding", o.embedding, 1, kMostWidth, "Width of the two ReLU layers below the pooling");
  add_whole_number(app, "--heads", o.heads, 1, kMostWidth, "Parallel associations");
  add_whole_number(app, "--hidden", o.hidden, 1, kMostWidth, "Width of the association space, per head");
  add_number(app, "--beta", o.beta, {}, "Inverse temperature; default 1 / sqrt(hidden)");
  add_whole_number(app, "--update-steps", o.update_steps, -1, 1000000,
                   "Updates of the state before the read-out; -1: until converged");
  add_number(app, "--dropout", o.dropout, kProbability, "Dropout of the association");
  add_number(app, "--embedding-dropout", o.embedding_dropout, kProbability,
             "Dropout of the inputs of each of the two ReLU layers");
}

void add_train_options(CLI::App& app, TrainOptions& o) {
  add_data(app, o.data, std::string("Benchmark (") + kBenchmarks + ") or CSV file: bag label, bag id, features");
  add_data_options(app, o.csv);
  add_whole_number(app, "--folds", o.folds, 2, kMostTrainings, "Folds of the cross-validation, stratified by label");
  add_whole_number(app, "--repeats", o.repeats, 1, kMostTrainings,
                   "Number of cross-validations, each with other folds");
  examples::add_seed(app, "--seed", o.seed, "Seed of the folds, the weights, the order of the bags and dropout");
  add_whole_number(app, "--epochs", o.epochs, 1, 1000000, "Passes over the training bags");
  add_number(app, "--lr", o.lr, examples::kAboveZero, "Learning rate of AdamW");
  add_number(app, "--lr-decay", o.lr_decay, kProbability, "Factor by which the learning rate changes after each epoch");
  add_whole_number(app, "--batch", o.batch, 1, 1000000, "Bags in each training step");
  add_model_options(app, o);
  add_number(app, "--bag-dropout", o.bag_dropout, kProbability,
             "Probability of leaving an instance out of its bag in training");
  add_whole_number(app, "--threads", o.threads, 0, 1024,
                   "Folds that are trained at the same time; 0: one for each core");
  examples::add_device(app, o.device);
  examples::add_checkpoint_options(app, o.checkpoint);
  add_file(app, "--save-model", o.save_model, "Afterwards train on all bags and save the model to this file");
  add_file(app, "--json", o.json, "File for the results");
  add_file(app, "--scores", o.scores, "CSV file for the score of every bag when it was in the test part");
  app.add_flag("--quiet", o.quiet, "Print the result only");
}

void add_predict_options(CLI::App& app, PredictOptions& o) {
  add_file(app, "--model", o.model, "File written by --save-model")->required();
  add_data(app, o.data, "CSV file: bag label, bag id, features; labels may be missing")->required();
  add_data_options(app, o.csv);
  add_whole_number(app, "--top", o.top, 0, 1000000, "Instances to name for each bag");
  add_file(app, "--scores", o.scores, "CSV file for the weight of every instance");
  examples::add_device(app, o.device);
  app.add_flag("--quiet", o.quiet, "Print the scores only");
}

void check(TrainOptions& o) {
  if (o.data.empty()) throw UsageError{"--data: expected a benchmark's name or a CSV file, got nothing; see --help"};
  if (o.folds > kMostTrainings / o.repeats) {
    throw UsageError{fmt::format("--repeats: expected at most {} with {} folds, which is {} trainings, got {}",
                                 kMostTrainings / o.folds, o.folds, kMostTrainings, o.repeats)};
  }
  if (o.threads == 0) o.threads = std::max(1u, std::thread::hardware_concurrency());
}

}  // namespace

std::optional<Request> parse_command_line(int argc, char** argv) {
  Request request;
  PredictOptions predict;
  examples::CommandLine line("hopfield_mil",
                             "Trains HopfieldPooling on a multiple-instance benchmark and cross-validates it.",
                             fmt::format("hopfield_mil {} (LibTorch {})", version(), TORCH_VERSION));
  add_train_options(line.app(), request.train);
  auto& command = line.add_command("predict", "Score bags with a saved model and say which instances decided");
  add_predict_options(command, predict);
  if (!line.parse(argc, argv)) return std::nullopt;
  if (command.parsed()) {
    request.predict = predict;
  } else {
    check(request.train);
  }
  return request;
}

std::string resolve_data(const std::string& name_or_path) {
  std::error_code error;
  if (fs::exists(name_or_path, error)) return name_or_path;
  const bool is_path = name_or_path.find('/') != std::string::npos || fs::path(name_or_path).has_extension();
  const auto benchmark = data_folder() / (name_or_path + ".csv");
  if (!is_path && fs::exists(benchmark, error)) return benchmark.string();
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(data_folder(), error)) {
    if (entry.path().extension() == ".csv") names.push_back(entry.path().stem().string());
  }
  std::sort(names.begin(), names.end());
  const auto known = names.empty() ? "none in " + data_folder().string() + ", where scripts/bootstrap.sh puts them"
                                   : examples::joined(names);
  throw UsageError{"--data: expected a CSV file or a benchmark (" + known + "), got " + examples::quote(name_or_path) +
                   (is_path ? "" : examples::suggestion(name_or_path, names))};
}

std::string data_title(const std::string& name_or_path) {
  return examples::valid_utf8(fs::path(name_or_path).stem().string());
}

}  // namespace hopfield::mil
