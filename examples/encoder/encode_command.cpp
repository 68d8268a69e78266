#include "common/console.h"
#include "common/output_files.h"
#include "common/report.h"
#include "encoding.h"
#include "options.h"
#include "tokens.h"
#include <hopfield/io/safetensors.h>

#include <ATen/ATen.h>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace hopfield::encoder {

int encode(const EncodeOptions& options) {
  examples::check_outputs(
      {{"--out", options.out}, {"--json", options.json}},
      {{"--model", options.model.path}, {"--text", options.text.text}, {"--tokens", options.text.tokens}});
  set_threads(options.threads);
  auto model = load_model(options.model);
  const auto tokens = read_tokens(options.text, model, options.model.path);
  at::Tensor embeddings;
  double seconds = 0;
  {
    examples::Progress progress(tokens.size(), "sentences", options.quiet);
    progress.line(examples::first_line("cpu"));
    const examples::Stopwatch watch;
    embeddings = encode_all(model, tokens, options.batch, &progress);
    seconds = watch.seconds();
  }
  examples::OutputFiles files;
  files.write({"--out", options.out}, [&](const auto& path) {
    io::TensorDict tensors;
    tensors.insert("embeddings", embeddings);
    io::save_safetensors(path, tensors);
  });
  files.write({"--json", options.json}, [&](const auto& path) {
    auto json = examples::json_header(options.command);
    json["sentences"] = tokens.size();
    json["tokens"] = tokens.ids.size(0);
    json["width"] = embeddings.size(1);
    json["update_steps"] = options.model.update_steps;
    json["beta_scale"] = options.model.beta_scale;
    json["seconds"] = seconds;
    examples::write_json(path, json);
  });
  const auto code = examples::report_files("hopfield_encoder", files, options.quiet);
  examples::print(fmt::format("{} sentences, {} tokens: {:.2f} s, {:.0f} sentences a second", tokens.size(),
                              tokens.ids.size(0), seconds, static_cast<double>(tokens.size()) / seconds));
  return code;
}

}  // namespace hopfield::encoder
