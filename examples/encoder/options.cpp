#include "options.h"

#include "common/command_line.h"
#include "common/options.h"
#include "common/report.h"
#include <hopfield/version.h>

#include <torch/version.h>

#include <fmt/format.h>

namespace hopfield::encoder {
namespace {

using examples::add_file;
using examples::add_number;
using examples::add_text;
using examples::add_whole_number;

constexpr int64_t kMost = 1000000;

void add_model(CLI::App& app, ModelOptions& o) {
  add_file(app, "--model", o.path, "model.safetensors of a BERT encoder, such as that of all-MiniLM-L6-v2")->required();
  add_whole_number(app, "--heads", o.heads, 1, 1000,
                   "Heads of its attention; by default those of config.json beside the model, or width / 32");
}

void add_updates(CLI::App& app, ModelOptions& o) {
  add_whole_number(app, "--update-steps", o.update_steps, 0, 1000,
                   "Updates of the queries before they read out; 0: the model as it was trained");
  add_number(app, "--beta-scale", o.beta_scale, examples::kAboveZero,
             "Factor of the inverse temperature 1 / sqrt(width of a head)");
}

void add_python(CLI::App& app, std::string& python) {
  add_text(app, "--python", python, "a Python program",
           "Python that has the package tokenizers, for scripts/tokenize_text.py");
}

void add_sentences(CLI::App& app, TextOptions& o) {
  add_file(app, "--text", o.text, "Text file with one sentence in each line; needs tokenizer.json beside the model");
  add_file(app, "--tokens", o.tokens, "Safetensors file of scripts/tokenize_text.py in place of a text");
  add_python(app, o.python);
}

void add_common(CLI::App& app, CommonOptions& o) {
  add_whole_number(app, "--batch", o.batch, 1, kMost, "Most sentences that are encoded together");
  add_whole_number(app, "--threads", o.threads, 0, 1024, "Threads of LibTorch; 0: as it chooses");
  add_file(app, "--json", o.json, "File for the results");
  app.add_flag("--quiet", o.quiet, "Print the result only");
}

void check_text(const TextOptions& o) {
  if (o.text.empty() == o.tokens.empty()) {
    throw UsageError{std::string("--text: expected either --text or --tokens, got ") +
                     (o.text.empty() ? "neither" : "both")};
  }
}

void check(const SearchOptions& o) {
  check_text(o.text);
  if (o.query.empty() == o.queries.empty()) {
    throw UsageError{std::string("--query: expected either --query or --queries, got ") +
                     (o.query.empty() ? "neither" : "both")};
  }
  if (o.text.text.empty()) {
    throw UsageError{"--text: expected the sentences as a text, since queries are texts, got --tokens"};
  }
}

}  // namespace

std::optional<Request> parse_command_line(int argc, char** argv) {
  EncodeOptions encode;
  SearchOptions search;
  HeadsOptions heads;
  CompareOptions compare;
  examples::CommandLine line("hopfield_encoder", "Runs a pretrained sentence encoder on Hopfield layers.",
                             fmt::format("hopfield_encoder {} (LibTorch {})", version(), TORCH_VERSION));
  auto& encoding = line.add_command("encode", "Turn sentences into vectors of unit length");
  add_model(encoding, encode.model);
  add_updates(encoding, encode.model);
  add_sentences(encoding, encode.text);
  add_file(encoding, "--out", encode.out, "File for the tensor `embeddings` [sentences, width]")->required();
  add_common(encoding, encode);
  auto& searching = line.add_command("search", "Find the sentences whose meaning is closest to that of a query");
  add_model(searching, search.model);
  add_updates(searching, search.model);
  add_sentences(searching, search.text);
  add_text(searching, "--query", search.query, "a text", "What to look for");
  add_file(searching, "--queries", search.queries, "Text file with a query in each line");
  add_whole_number(searching, "--top", search.top, 1, kMost, "Sentences to show for each query");
  add_number(searching, "--least", search.least, {-1, 1},
             "Least cosine of a match; unrelated sentences of all-MiniLM-L6-v2 seldom have more than 0.3");
  add_common(searching, search);
  auto& classifying =
      line.add_command("heads", "Classify the heads of all layers by how many tokens they average over");
  add_model(classifying, heads.model);
  add_updates(classifying, heads.model);
  add_sentences(classifying, heads.text);
  add_whole_number(classifying, "--length", heads.length, 2, kMost,
                   "Tokens of a sequence; the sentences are packed into sequences of that length");
  add_file(classifying, "--chart", heads.picture, {".png"}, "Picture of the classes, layers by heads");
  add_common(classifying, heads);
  auto& comparing = line.add_command(
      "compare", "Say what more updates and other temperatures do to embeddings, with 20 pairs of sentences");
  add_model(comparing, compare.model);
  add_python(comparing, compare.python);
  add_whole_number(comparing, "--most-update-steps", compare.most_update_steps, 0, 100, "Updates to try");
  add_common(comparing, compare);
  if (!line.parse(argc, argv)) return std::nullopt;
  const auto command = examples::command_text(argc, argv);
  encode.command = search.command = heads.command = compare.command = command;
  Request request;
  if (encoding.parsed()) {
    check_text(encode.text);
    request.encode = encode;
  } else if (searching.parsed()) {
    check(search);
    request.search = search;
  } else if (classifying.parsed()) {
    check_text(heads.text);
    request.heads = heads;
  } else if (comparing.parsed()) {
    request.compare = compare;
  } else {
    throw UsageError{"expected a command (encode, search, heads or compare), got none; see --help"};
  }
  return request;
}

}  // namespace hopfield::encoder
