#include "common/console.h"
#include "common/output_files.h"
#include "common/report.h"
#include "common/text.h"
#include "encoding.h"
#include "options.h"
#include "tokens.h"
#include <hopfield/memory/continuous.h>

#include <ATen/ATen.h>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>

namespace hopfield::encoder {

int search(const SearchOptions& options) {
  examples::check_outputs(
      {{"--json", options.json}},
      {{"--model", options.model.path}, {"--text", options.text.text}, {"--queries", options.queries}});
  set_threads(options.threads);
  auto model = load_model(options.model);
  const auto sentences = read_lines("--text", options.text.text);
  const auto queries =
      options.queries.empty() ? std::vector<std::string>{options.query} : read_lines("--queries", options.queries);
  const auto stored = encode_all(model, read_tokens(options.text, model, options.model.path), options.batch, nullptr);
  const auto cues = encode_all(model,
                               tokens_of(options.queries.empty() ? "--query" : "--queries", queries,
                                         options.text.python, model, options.model.path),
                               options.batch, nullptr);
  // Embeddings have unit length, so that products are cosines.
  constexpr double kBeta = 20.0;
  const memory::ContinuousMemory memory(stored, memory::ContinuousOptions().beta(kBeta));
  const auto best = memory.best_matches(cues, std::min(options.top, stored.size(0)));
  const auto energies = memory.energy(cues);
  if (!options.quiet) examples::print(examples::first_line("cpu"));
  auto json = examples::json_header(options.command);
  for (int64_t q = 0; q < cues.size(0); ++q) {
    const auto energy = energies[q].item<double>();
    nlohmann::ordered_json entry{{"query", examples::valid_utf8(queries[static_cast<size_t>(q)])}, {"energy", energy}};
    examples::print(fmt::format("{} (energy {:.3f})", queries[static_cast<size_t>(q)], energy));
    auto& matches = entry["matches"] = nlohmann::ordered_json::array();
    for (int64_t i = 0; i < best.indices.size(1); ++i) {
      const auto cosine = best.values[q][i].item<double>();
      if (cosine < options.least) break;
      const auto number = best.indices[q][i].item<int64_t>();
      const auto& sentence = sentences[static_cast<size_t>(number)];
      examples::print(fmt::format("  {:.3f}  {}: {}", cosine, number + 1, sentence));
      matches.push_back({{"line", number + 1}, {"cosine", cosine}, {"sentence", examples::valid_utf8(sentence)}});
    }
    if (matches.empty()) {
      examples::print(fmt::format("  nothing matches: the closest sentence has the cosine {:.3f}",
                                  best.values[q][0].item<double>()));
    }
    json["queries"].push_back(std::move(entry));
  }
  examples::OutputFiles files;
  files.write({"--json", options.json}, [&](const auto& path) { examples::write_json(path, json); });
  return examples::report_files("hopfield_encoder", files, options.quiet);
}

}  // namespace hopfield::encoder
