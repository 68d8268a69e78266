// Trains a small transformer that predicts the next character of a text, with Hopfield layers in place of attention.
//
//   build/cpu/bin/hopfield_lm --chart lm.png
//   build/cpu/bin/hopfield_lm --text book.txt --update-steps 2 --beta learned --save-model model.safetensors
//   build/cpu/bin/hopfield_lm --attention both --type float64 --steps 100
//   build/cpu/bin/hopfield_lm sample --model model.safetensors --prompt "The "

#include "common/allocator.h"
#include "common/console.h"
#include "common/output_files.h"
#include "common/report.h"
#include "common/signals.h"
#include "common/text.h"
#include "options.h"
#include "report.h"
#include "training.h"

#include <ATen/Parallel.h>

#include <fmt/format.h>

namespace hopfield::lm {
namespace {

constexpr auto kProgram = "hopfield_lm";

int interrupted(const examples::RunCheckpoint& checkpoint, const examples::OutputFiles& files) {
  const auto advice = !checkpoint.enabled()      ? "nothing was kept, because there was no --checkpoint"
                      : files.failures().empty() ? "go on with --resume --checkpoint " + checkpoint.path()
                                                 : "the last state was not kept";
  examples::print_error(std::string(kProgram) + ": interrupted; " + advice);
  examples::report_failures(kProgram, files);
  return examples::kFailed;
}

/// What the trained model writes, from the first character of the part of the text that it has not learned.
std::string sample_of(std::vector<Training>& trainings, const Corpus& corpus, const TrainOptions& options) {
  if (options.sample == 0) return "";
  SampleOptions sample;
  sample.prompt = std::string(1, corpus.vocabulary.character(corpus.evaluation[0].item<int64_t>()));
  sample.length = options.sample;
  sample.seed = options.seed;
  return write_text(trainings.front().model(), corpus.vocabulary, options.model.context, sample);
}

int train(const TrainOptions& options) {
  examples::check_outputs({{"--checkpoint", options.checkpoint.path},
                           {"--save-model", options.save_model},
                           {"--chart", options.chart},
                           {"--json", options.json}},
                          {{"--text", options.text}});
  if (options.threads > 0) at::set_num_threads(static_cast<int>(options.threads));
  examples::RunCheckpoint checkpoint(kProgram, options.checkpoint);
  const auto corpus = read_corpus(options.text, options.model.context);
  checkpoint.begin(describe_run(corpus, options));
  auto trainings = make_trainings(corpus, options);
  for (size_t i = 0; i < trainings.size(); ++i) {
    if (const auto* kept = checkpoint.find(static_cast<int64_t>(i))) {
      reading("--resume", [&] { trainings[i].restore(*kept, checkpoint.path()); });
    }
  }
  examples::catch_signals();
  bool complete = false;
  {
    examples::Progress progress(options.steps - trainings.front().step(), "steps", options.quiet);
    progress.line(examples::first_line("cpu"));
    progress.line(fmt::format("{}: {} characters, {} different ones", examples::shown(options.text),
                              corpus.train.size(0) + corpus.evaluation.size(0), corpus.vocabulary.size()));
    complete = lm::train(trainings, options, checkpoint, progress);
  }
  examples::OutputFiles files;
  files.add_failure("--checkpoint", checkpoint.write());
  if (!complete) return interrupted(checkpoint, files);
  const auto sample = sample_of(trainings, corpus, options);
  files.write({"--save-model", options.save_model}, [&](const auto& to) {
    save_model(to, {trainings.front().model(), corpus.vocabulary, options.model});
  });
  if (!options.chart.empty()) {
    examples::write_picture(kProgram, files, {"--chart", options.chart}, charts_of(trainings));
  }
  files.write({"--json", options.json}, [&](const auto& to) { write_json(to, trainings, corpus, options, sample); });
  if (!sample.empty() && !options.quiet) examples::print("the model writes:\n" + sample);
  const auto code = examples::report_files(kProgram, files, options.quiet);
  examples::print(result_line(trainings));
  return code;
}

int sample(const SampleOptions& options) {
  auto saved = load_model(options.model);
  examples::print(write_text(saved.model, saved.vocabulary, saved.options.context, options));
  return examples::kDone;
}

int run(int argc, char** argv) {
  const auto request = parse_command_line(argc, argv);
  if (!request) return examples::kDone;
  examples::keep_freed_memory();
  return request->sample ? sample(*request->sample) : train(request->train);
}

}  // namespace
}  // namespace hopfield::lm

int main(int argc, char** argv) {
  return hopfield::examples::run_program(hopfield::lm::kProgram, [&] { return hopfield::lm::run(argc, argv); });
}
