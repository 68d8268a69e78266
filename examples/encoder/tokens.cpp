#include "tokens.h"

#include "common/console.h"
#include "common/process.h"
#include "common/text.h"
#include <hopfield/io/file.h>
#include <hopfield/io/safetensors.h>

#include <ATen/ATen.h>

#include <fmt/format.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

namespace hopfield::encoder {
namespace {

namespace fs = std::filesystem;

/// A folder for files that other programs read and write, which is removed in the end.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    auto name = (fs::temp_directory_path() / "hopfield-XXXXXX").string();
    TORCH_CHECK(::mkdtemp(name.data()) != nullptr, "cannot make a temporary folder");
    path_ = name;
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  ~TemporaryFolder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  std::string file(const char* name) const { return (fs::path(path_) / name).string(); }

 private:
  std::string path_;
};

void check_tokens(const std::string& option, const std::string& path, const Tokens& tokens, const Sizes& sizes) {
  const auto refuse = [&](const std::string& expected, const std::string& got) {
    throw UsageError{fmt::format("{}: expected {}, got {} in {}", option, expected, got, examples::quote(path))};
  };
  const auto lengths = at::diff(tokens.offsets);
  if (tokens.size() < 1) refuse("at least one sentence", "none");
  const bool fits = tokens.offsets[0].item<int64_t>() == 0 &&
                    tokens.offsets[-1].item<int64_t>() == tokens.ids.size(0) && lengths.ge(0).all().item<bool>();
  if (!fits) refuse("offsets that rise from 0 to the number of ids", "other offsets");
  if (const auto empty = lengths.eq(0).nonzero(); empty.size(0) > 0) {
    refuse("sentences with at least one token", fmt::format("sentence {} without any", empty[0].item<int64_t>() + 1));
  }
  if (const auto most = lengths.max().item<int64_t>(); most > sizes.positions) {
    refuse(fmt::format("sentences of at most {} tokens, the positions of the model", sizes.positions),
           fmt::format("sentence {} with {}", lengths.argmax().item<int64_t>() + 1, most));
  }
  const auto wrong = tokens.ids.lt(0).logical_or(tokens.ids.ge(sizes.vocabulary));
  if (wrong.any().item<bool>()) {
    refuse(fmt::format("token ids from 0 to {}, the vocabulary of the model", sizes.vocabulary - 1),
           fmt::format("{}", tokens.ids.masked_select(wrong)[0].item<int64_t>()));
  }
}

Tokens read_file(const std::string& option, const std::string& path) {
  const auto file = reading(option, [&] { return io::load_safetensors(path); });
  const auto *ids = file.tensors.find("ids"), *offsets = file.tensors.find("offsets");
  const bool fits = ids != nullptr && offsets != nullptr && ids->dim() == 1 && offsets->dim() == 1 &&
                    at::isIntegralType(ids->scalar_type(), false) && at::isIntegralType(offsets->scalar_type(), false);
  if (!fits) {
    throw UsageError{
        fmt::format("{}: expected the integers ids [total] and offsets [sentences + 1] that "
                    "scripts/tokenize_text.py writes, got others in {}",
                    option, examples::quote(path))};
  }
  return {ids->to(at::kLong).contiguous(), offsets->to(at::kLong).contiguous()};
}

/// The message of the script without its line breaks, and whether it is a warning.
std::string last_line(const std::string& text) {
  std::string last;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (!line.empty()) last = line;
  }
  return examples::shown(last);
}

/// Runs scripts/tokenize_text.py on a text file.
Tokens tokenize(const std::string& option, const std::string& text, const std::string& python,
                const SentenceEncoder& model, const std::string& model_path) {
  const auto tokenizer = fs::path(model_path).parent_path() / "tokenizer.json";
  std::error_code error;
  if (!fs::exists(tokenizer, error)) {
    throw UsageError{option + ": expected " + examples::quote(tokenizer.string()) +
                     " beside the model, got nothing there; --tokens takes token ids instead"};
  }
  const TemporaryFolder folder;
  const auto out = folder.file("tokens");
  const auto result = examples::run_process({python, std::string(HOPFIELD_SCRIPTS_DIR) + "/tokenize_text.py",
                                             "--tokenizer", tokenizer.string(), "--text", text, "--out", out, "--most",
                                             std::to_string(model->sizes().positions)});
  if (!result) throw UsageError{"--python: expected a Python program, got " + examples::quote(python)};
  if (!result->succeeded()) throw UsageError{option + ": " + last_line(result->errors)};
  std::istringstream warnings(result->errors);
  for (std::string line; std::getline(warnings, line);) examples::print_error("hopfield_encoder: " + line);
  return read_file(option, out);
}

}  // namespace

std::vector<std::string> read_lines(const std::string& option, const std::string& path) {
  std::ifstream file(path);
  std::vector<std::string> lines;
  for (std::string line; std::getline(file, line);) {
    if (!line.empty() && line.back() == '\r') line.pop_back();
    lines.push_back(line);
  }
  if (lines.empty()) throw UsageError{option + ": expected a text file, got nothing in " + examples::quote(path)};
  return lines;
}

Tokens read_tokens(const TextOptions& text, const SentenceEncoder& model, const std::string& model_path) {
  const bool has_text = !text.text.empty();
  const auto tokens =
      has_text ? tokenize("--text", text.text, text.python, model, model_path) : read_file("--tokens", text.tokens);
  check_tokens(has_text ? "--text" : "--tokens", has_text ? text.text : text.tokens, tokens, model->sizes());
  return tokens;
}

Tokens tokens_of(const std::string& option, const std::vector<std::string>& sentences, const std::string& python,
                 const SentenceEncoder& model, const std::string& model_path) {
  const TemporaryFolder folder;
  const auto path = folder.file("text");
  std::string text;
  for (const auto& sentence : sentences) text += sentence + "\n";
  io::write_file(path, text);
  const auto tokens = tokenize(option, path, python, model, model_path);
  check_tokens(option, "the query", tokens, model->sizes());
  return tokens;
}

}  // namespace hopfield::encoder
