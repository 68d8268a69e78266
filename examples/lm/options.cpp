#include "options.h"

#include "common/command_line.h"
#include "common/options.h"
#include "common/report.h"
#include <hopfield/version.h>

#include <torch/version.h>

#include <fmt/format.h>

#include <charconv>
#include <cmath>

namespace hopfield::lm {
namespace {

using examples::add_choice;
using examples::add_file;
using examples::add_number;
using examples::add_whole_number;

constexpr int64_t kMost = 1000000, kMostWidth = 65536;

void add_model_options(CLI::App& app, ModelOptions& o, std::string& beta) {
  add_whole_number(app, "--layers", o.layers, 1, 1000, "Encoder layers");
  add_whole_number(app, "--heads", o.heads, 1, 1000, "Heads of each layer");
  add_whole_number(app, "--width", o.width, 1, kMostWidth, "Width of the model, a multiple of the heads");
  add_whole_number(app, "--context", o.context, 2, kMost, "Characters that the model sees at a time");
  add_whole_number(app, "--update-steps", o.update_steps, 0, 1000,
                   "Updates of the queries before they read out, in --attention hopfield; 0: plain attention");
  examples::add_text(
      app, "--beta", beta, "a number above 0 or 'learned'",
      "Inverse temperature of --attention hopfield, or 'learned': one for each head, trained; by default "
      "1 / sqrt(width of a head)");
}

void add_train_options(CLI::App& app, TrainOptions& o, std::string& beta) {
  add_file(app, "--text", o.text, "Text to learn; by default a licence that Debian ships")->default_str(kDefaultText);
  add_choice(app, "--attention", o.attention, {"hopfield", "torch", "both"},
             "HopfieldEncoderLayer, LibTorch's TransformerEncoderLayer, or both side by side from the same weights");
  add_choice(app, "--type", o.type, {"float32", "float64"}, "Floating-point type");
  add_model_options(app, o.model, beta);
  add_whole_number(app, "--steps", o.steps, 1, kMost, "Training steps");
  add_whole_number(app, "--batch", o.batch, 1, kMost, "Sequences in each step");
  add_number(app, "--lr", o.lr, examples::kAboveZero, "Learning rate of AdamW");
  add_whole_number(app, "--evaluations", o.evaluations, 1, kMost,
                   "How often the loss on the last tenth of the text, and the classes of the heads, are found");
  add_whole_number(app, "--sample", o.sample, 0, kMost, "Characters that the trained model writes");
  examples::add_seed(app, "--seed", o.seed, "Seed of the weights, the batches and the sample");
  add_whole_number(app, "--threads", o.threads, 0, 1024, "Threads of LibTorch; 0: as it chooses");
  examples::add_checkpoint_options(app, o.checkpoint);
  add_file(app, "--save-model", o.save_model, "File for the trained model, for the command `sample`");
  add_file(app, "--chart", o.chart, {".png", ".svg"}, "Picture of the losses, and of the head classes over training");
  add_file(app, "--json", o.json, "File for the results");
  app.add_flag("--quiet", o.quiet, "Print the result only");
}

void add_sample_options(CLI::App& app, SampleOptions& o) {
  add_file(app, "--model", o.model, "File written by --save-model")->required();
  examples::add_text(app, "--prompt", o.prompt, "a text", "How the text begins");
  add_whole_number(app, "--length", o.length, 1, kMost, "Characters to write");
  add_number(app, "--temperature", o.temperature, examples::kAboveZero,
             "Temperature of the choice between characters; small: the likeliest one");
  examples::add_seed(app, "--seed", o.seed, "Seed of the choice");
}

void check(TrainOptions& o, const std::string& beta) {
  auto& model = o.model;
  if (model.width % model.heads != 0) {
    throw UsageError{fmt::format("--width: expected a multiple of the {} heads, got {}", model.heads, model.width)};
  }
  if (beta == "learned") {
    model.learns_beta = true;
  } else if (!beta.empty()) {
    double value = 0;
    const auto* end = beta.data() + beta.size();
    const auto read = std::from_chars(beta.data(), end, value);
    if (read.ec != std::errc() || read.ptr != end || !(value > 0) || !std::isfinite(value)) {
      throw UsageError{"--beta: expected a number above 0 or 'learned', got '" + beta + "'"};
    }
    model.beta = value;
  }
  const bool is_plain = model.update_steps == 0 && beta.empty();
  if (o.attention == "torch" && !is_plain) {
    throw UsageError{std::string(model.update_steps > 0 ? "--update-steps" : "--beta") +
                     ": expected it with --attention hopfield or both, got it with torch"};
  }
  if (o.attention == "torch" && !o.save_model.empty()) {
    throw UsageError{"--save-model: expected it with --attention hopfield or both, got it with torch"};
  }
}

}  // namespace

std::optional<Request> parse_command_line(int argc, char** argv) {
  Request request;
  SampleOptions sample;
  std::string beta;
  examples::CommandLine line("hopfield_lm",
                             "Trains a small transformer that predicts the next character of a text, with Hopfield "
                             "layers in place of attention.",
                             fmt::format("hopfield_lm {} (LibTorch {})", version(), TORCH_VERSION));
  add_train_options(line.app(), request.train, beta);
  auto& command = line.add_command("sample", "Let a trained model write");
  add_sample_options(command, sample);
  if (!line.parse(argc, argv)) return std::nullopt;
  if (command.parsed()) {
    request.sample = sample;
  } else {
    check(request.train, beta);
    request.train.command = examples::command_text(argc, argv);
  }
  return request;
}

}  // namespace hopfield::lm
