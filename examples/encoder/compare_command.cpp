#include "common/console.h"
#include "common/output_files.h"
#include "common/report.h"
#include "encoding.h"
#include "options.h"
#include "tokens.h"

#include <ATen/ATen.h>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>

namespace hopfield::encoder {
namespace {

/// Two sentences, and how similar their meanings are: from 0 (not at all) to 5 (the same).
struct Pair {
  const char *first, *second;
  double grade;
};

constexpr Pair kPairs[] = {
    {"A boy is playing the guitar.", "A boy plays a guitar.", 5},
    {"The train was late again this morning.", "This morning, the train did not arrive on time, as so often.", 4.6},
    {"She bought fresh bread at the bakery.", "At the bakery, she got a loaf of fresh bread.", 4.8},
    {"Two dogs run through the snow.", "A pair of dogs is running in the snow.", 4.9},
    {"The company reported a loss for the year.", "The firm lost money last year.", 4.3},
    {"He repaired the old bicycle in his garage.", "In his garage, he fixed a bike.", 4.2},
    {"The doctor advised her to sleep more.", "She was told by her physician to rest.", 4.0},
    {"A woman is slicing tomatoes.", "A woman is cutting vegetables.", 3.8},
    {"The storm damaged several houses.", "Some roofs were torn off by strong wind.", 3.3},
    {"Children are swimming in the lake.", "Kids play at the beach.", 2.8},
    {"The chef prepares a fish soup.", "A cook is grilling a steak.", 2.2},
    {"The museum opens at nine.", "The shop closes at nine.", 1.8},
    {"A man rides a horse on the beach.", "A man walks his dog in the park.", 1.5},
    {"The bank raised its interest rates.", "The price of oil fell sharply.", 1.3},
    {"The cat sleeps on the sofa.", "The dog barks at the mailman.", 1.0},
    {"The orchestra played a symphony.", "The engine makes a strange noise.", 0.5},
    {"Water boils at a hundred degrees.", "The lawyer wrote a long letter.", 0.1},
    {"They planted trees along the road.", "The software crashed without a message.", 0.0},
    {"My grandmother knits warm sweaters.", "The satellite entered its orbit.", 0.0},
    {"The recipe needs two eggs.", "Voters elected a new mayor.", 0.1},
};

/// The ranks of numbers; equal ones share the mean of theirs.
at::Tensor ranks(const at::Tensor& values) {
  const auto smaller = values.unsqueeze(1).gt(values).sum(1), equal = values.unsqueeze(1).eq(values).sum(1);
  return smaller.to(at::kDouble) + 0.5 * (equal - 1).to(at::kDouble);
}

/// Spearman's correlation: that of the ranks.
double rank_correlation(const at::Tensor& a, const at::Tensor& b) {
  return at::corrcoef(at::stack({ranks(a), ranks(b)}))[0][1].item<double>();
}

}  // namespace

int compare(const CompareOptions& options) {
  examples::check_outputs({{"--json", options.json}}, {{"--model", options.model.path}});
  set_threads(options.threads);
  std::vector<std::string> sentences;
  std::vector<double> grades;
  for (const auto& pair : kPairs) {
    sentences.emplace_back(pair.first);
    sentences.emplace_back(pair.second);
    grades.push_back(pair.grade);
  }
  auto plain = load_model(options.model);
  const auto tokens = tokens_of("--python", sentences, options.python, plain, options.model.path);
  const auto unchanged = encode_all(plain, tokens, options.batch, nullptr);
  if (!options.quiet) examples::print(examples::first_line("cpu"));
  examples::print("updates  beta scale  correlation with the grades  cosine to the embeddings without updates");
  auto json = examples::json_header(options.command);
  for (int64_t steps = 0; steps <= options.most_update_steps; ++steps) {
    for (const double scale : {0.5, 1.0, 2.0, 4.0}) {
      auto changed = options.model;
      changed.update_steps = steps, changed.beta_scale = scale;
      auto model = load_model(changed);
      const auto embeddings = encode_all(model, tokens, options.batch, nullptr).to(at::kDouble);
      const auto pairs = embeddings.view({-1, 2, embeddings.size(1)});
      const auto cosines = (pairs.select(1, 0) * pairs.select(1, 1)).sum(1);
      const auto correlation = rank_correlation(cosines, at::tensor(grades, at::kDouble));
      const auto cosine = (embeddings * unchanged.to(at::kDouble)).sum(1).mean().item<double>();
      examples::print(fmt::format("{:>7}  {:>10}  {:>27.3f}  {:>40.3f}", steps, scale, correlation, cosine));
      json["results"].push_back(
          {{"update_steps", steps}, {"beta_scale", scale}, {"correlation", correlation}, {"cosine", cosine}});
    }
  }
  examples::OutputFiles files;
  files.write({"--json", options.json}, [&](const auto& path) { examples::write_json(path, json); });
  return examples::report_files("hopfield_encoder", files, options.quiet);
}

}  // namespace hopfield::encoder
