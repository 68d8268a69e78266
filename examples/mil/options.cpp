#include "options.h"

#include <CLI/CLI.hpp>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <thread>
#include <vector>

namespace hopfield::mil {
namespace {

namespace fs = std::filesystem;

fs::path data_folder() {
  const char* given = std::getenv("HOPFIELD_DATA");
  return given != nullptr ? fs::path(given) : fs::path(HOPFIELD_DATA_DIR) / "mil";
}

void add_train_options(CLI::App& app, TrainOptions& o) {
  const auto positive = CLI::PositiveNumber;
  const auto probability = CLI::Range(0.0, 1.0);
  app.add_option("--data", o.data,
                 "Benchmark (musk1, musk2, elephant, ucsb_breast_cancer) or CSV file: bag label, bag id, features");
  add_data_options(app, o.csv);
  app.add_option("--folds", o.folds, "Folds of the cross-validation, stratified by label")
      ->check(CLI::Range(2, 1000000));
  app.add_option("--repeats", o.repeats, "Repetitions with other folds")->check(positive);
  app.add_option("--seed", o.seed, "Of folds, weights, order and dropout")->check(CLI::NonNegativeNumber);
  app.add_option("--epochs", o.epochs, "Passes over the training bags")->check(positive);
  app.add_option("--lr", o.lr, "Learning rate of AdamW")->check(positive);
  app.add_option("--lr-decay", o.lr_decay, "Factor of the learning rate after each epoch")->check(probability);
  app.add_option("--batch", o.batch, "Bags in a training step")->check(positive);
  app.add_option("--embedding", o.embedding, "Width of the two ReLU layers below the pooling")->check(positive);
  app.add_option("--heads", o.heads, "Parallel associations")->check(positive);
  app.add_option("--hidden", o.hidden, "Width of the association space, per head")->check(positive);
  app.add_option("--beta", o.beta, "Inverse temperature; default 1 / sqrt(hidden)");
  app.add_option("--update-steps", o.update_steps, "Updates of the state before the read-out; -1: until converged")
      ->check(CLI::Range(-1, 1000000));
  app.add_option("--dropout", o.dropout, "Of the association")->check(probability);
  app.add_option("--embedding-dropout", o.embedding_dropout, "Of the features below each of the two ReLU layers")
      ->check(probability);
  app.add_option("--bag-dropout", o.bag_dropout, "Probability of leaving an instance out of its bag in training")
      ->check(probability);
  app.add_option("--threads", o.threads, "Folds trained at a time; 0: one for each core")
      ->check(CLI::NonNegativeNumber);
  app.add_option("--device", o.device, "cpu, cuda or cuda:N");
  app.add_option("--checkpoint", o.checkpoint,
                 "File that keeps the state of the run, written every few seconds and on Ctrl-C");
  app.add_flag("--resume", o.resume, "Go on from the checkpoint");
  app.add_option("--save-model", o.save_model, "Train on all bags afterwards and keep the model in this file");
  app.add_option("--json", o.json, "File for the results");
  app.add_option("--scores", o.scores, "CSV file for the score of every bag when it was in the test part");
  app.add_flag("--quiet", o.quiet, "Print the result only");
}

CLI::App* add_predict(CLI::App& app, PredictOptions& o) {
  auto* predict = app.add_subcommand("predict", "Score bags with a saved model and say which instances decided");
  predict->add_option("--model", o.model, "File written by --save-model")->required();
  predict->add_option("--data", o.data, "CSV file: bag label, bag id, features; labels may be missing")->required();
  add_data_options(*predict, o.csv);
  predict->add_option("--top", o.top, "Instances to name for each bag")->check(CLI::NonNegativeNumber);
  predict->add_option("--scores", o.scores, "CSV file for the weight of every instance");
  predict->add_option("--device", o.device, "cpu, cuda or cuda:N");
  predict->add_flag("--quiet", o.quiet, "Print the scores only");
  return predict;
}

/// A result that cannot be written should not cost the work that leads to it.
void check_writable(const std::string& option, const std::string& path) {
  if (path.empty()) return;
  const auto folder = fs::path(path).has_parent_path() ? fs::path(path).parent_path() : fs::path(".");
  std::error_code error;
  if (!fs::is_directory(folder, error)) {
    throw UsageError{option + ": expected a file in an existing folder, got '" + path + "'; make the folder first"};
  }
  if (fs::is_directory(path, error)) throw UsageError{option + ": expected a file, got the folder '" + path + "'"};
}

void check(TrainOptions& o) {
  if (o.data.empty()) throw UsageError{"--data: expected a benchmark's name or a CSV file, got nothing; see --help"};
  if (!std::isfinite(o.lr)) throw UsageError{"--lr: expected a finite number"};
  if (o.beta && !std::isfinite(*o.beta)) throw UsageError{"--beta: expected a finite number"};
  if (o.resume && o.checkpoint.empty())
    throw UsageError{"--resume: expected --checkpoint FILE to resume from, got none"};
  if (o.threads == 0) o.threads = std::max(1u, std::thread::hardware_concurrency());
  check_writable("--json", o.json);
  check_writable("--scores", o.scores);
  check_writable("--save-model", o.save_model);
  check_writable("--checkpoint", o.checkpoint);
}

}  // namespace

std::optional<CommandLine> parse_command_line(int argc, char** argv) {
  CommandLine line;
  PredictOptions predict;
  CLI::App app{"Trains HopfieldPooling on a multiple-instance benchmark and cross-validates it."};
  app.option_defaults()->take_last()->always_capture_default();
  add_train_options(app, line.train);
  const auto* predict_command = add_predict(app, predict);
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp& help) {
    app.exit(help);
    return std::nullopt;
  } catch (const CLI::ParseError& error) {
    throw UsageError{std::string(error.what()) + "; see --help"};
  }
  if (predict_command->parsed()) {
    check_writable("--scores", predict.scores);
    line.predict = predict;
  } else {
    check(line.train);
  }
  return line;
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
  std::string known;
  for (const auto& name : names) known += (known.empty() ? "" : ", ") + name;
  if (known.empty()) known = "none in " + data_folder().string() + ", where scripts/bootstrap.sh puts them";
  throw UsageError{"--data: expected a CSV file or a benchmark (" + known + "), got '" + name_or_path + "'"};
}

std::string data_title(const std::string& name_or_path) { return fs::path(name_or_path).stem().string(); }

}  // namespace hopfield::mil
