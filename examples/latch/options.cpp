#include "options.h"

#include "common/command_line.h"
#include "common/options.h"
#include "common/report.h"
#include <hopfield/version.h>

#include <torch/version.h>

#include <fmt/format.h>

namespace hopfield::latch {
namespace {

using examples::add_choice;
using examples::add_file;
using examples::add_number;
using examples::add_whole_number;

constexpr int64_t kMost = 1000000;

void add_options(CLI::App& app, Options& o) {
  add_choice(app, "--task", o.task, {"latch", "bits", "all"},
             "latch: remember the first character of a sequence; bits: find signals among random bit patterns");
  add_choice(app, "--layer", o.layer, {"hopfield", "pooling", "all"}, "Hopfield or HopfieldPooling");
  add_whole_number(app, "--epochs", o.epochs, 1, kMost,
                   "Passes over the training data; by default 20 (latch), 250 (bits)");
  add_whole_number(app, "--samples", o.samples, 16, kMost,
                   "Sequences or bags, of which an eighth is for evaluation; by default 4096 (latch), 2048 (bits)");
  add_whole_number(app, "--length", o.length, 2, kMost,
                   "Characters of a sequence, or instances of a bag; by default 20 (latch), 16 (bits)");
  add_whole_number(app, "--characters", o.characters, 3, kMost, "Different characters of latch");
  add_whole_number(app, "--signals", o.signals, 1, kMost, "Different signals of bits");
  add_whole_number(app, "--bits", o.bits, 2, 62, "Bits of a pattern");
  add_whole_number(app, "--batch", o.batch, 1, kMost, "Samples in each training step");
  add_whole_number(app, "--heads", o.heads, 1, 1000, "Heads of the layer, by default 1 (latch), 8 (bits)");
  add_whole_number(app, "--hidden", o.hidden, 1, kMost,
                   "Width of the association space of a head, by default that of the input (latch), 16 (bits)");
  add_whole_number(app, "--update-steps", o.update_steps, 0, 1000,
                   "Updates before the read-out, by default none (latch), 3 (bits)");
  add_number(app, "--beta", o.beta, examples::kAboveZero,
             "Inverse temperature, by default 1 / sqrt(hidden) (latch), 1 (bits)");
  add_choice(app, "--bias-pattern", o.bias_pattern, {"yes", "no"},
             "One trained pattern beside the stored ones, by default no (latch), yes (bits)");
  add_number(app, "--dropout", o.dropout, examples::kProbability, "Dropout of the association");
  add_number(app, "--lr", o.lr, examples::kAboveZero, "Learning rate of AdamW");
  examples::add_seed(app, "--seed", o.seed, "Seed of the data, the weights and the order of the samples");
  add_file(app, "--chart", o.chart, {".png", ".svg"}, "Picture of the accuracy over the epochs");
  add_file(app, "--json", o.json, "File for the results");
  app.add_flag("--quiet", o.quiet, "Print the result only");
}

void check(const Options& o) {
  if (o.task == "latch") return;
  if (o.bits < 62 && o.signals >= (int64_t{1} << o.bits) - 1) {
    throw UsageError{
        fmt::format("--signals: expected fewer than 2^bits - 1 = {}, got {}", (int64_t{1} << o.bits) - 1, o.signals)};
  }
}

}  // namespace

std::optional<Options> parse_command_line(int argc, char** argv) {
  Options options;
  examples::CommandLine line("hopfield_latch", "Trains Hopfield layers on two tasks with sequences and bags.",
                             fmt::format("hopfield_latch {} (LibTorch {})", version(), TORCH_VERSION));
  add_options(line.app(), options);
  if (!line.parse(argc, argv)) return std::nullopt;
  options.command = examples::command_text(argc, argv);
  check(options);
  return options;
}

}  // namespace hopfield::latch
