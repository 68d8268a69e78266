#include "text.h"

#include "common/digest.h"
#include "common/errors.h"
#include "common/text.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>

#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <set>

namespace hopfield::lm {

using examples::UsageError;

Vocabulary::Vocabulary(const std::string& text) {
  const std::set<char> all(text.begin(), text.end());
  bytes_.assign(all.begin(), all.end());
}

at::Tensor Vocabulary::encode(const std::string& option, const std::string& text) const {
  auto numbers = at::empty({static_cast<int64_t>(text.size())}, at::kLong);
  auto* to = numbers.data_ptr<int64_t>();
  for (size_t i = 0; i < text.size(); ++i) {
    const auto place = bytes_.find(text[i]);
    if (place == std::string::npos) {
      throw UsageError{option + ": expected characters that the model has learned, got " +
                       examples::quote(std::string(1, text[i]))};
    }
    to[i] = static_cast<int64_t>(place);
  }
  return numbers;
}

Corpus read_corpus(const std::string& path, int64_t context) {
  std::ifstream file(path, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  if (!file.is_open() || file.bad()) {
    throw UsageError{"--text: expected a file that can be read, got " + examples::quote(path)};
  }
  const auto least = 20 * (context + 1);
  if (static_cast<int64_t>(text.size()) < least) {
    throw UsageError{fmt::format("--text: expected at least {} characters for a --context of {}, got {} in {}", least,
                                 context, text.size(), examples::quote(path))};
  }
  Corpus corpus;
  corpus.vocabulary = Vocabulary(text);
  const auto all = corpus.vocabulary.encode("--text", text);
  const auto held_out = std::max(all.size(0) / 10, context + 1);
  corpus.train = all.slice(0, 0, all.size(0) - held_out);
  corpus.evaluation = all.slice(0, all.size(0) - held_out);
  examples::Digest digest;
  digest.add(text);
  corpus.digest = digest.text();
  return corpus;
}

at::Tensor draw_windows(const at::Tensor& text, int64_t count, int64_t context, uint64_t seed) {
  const auto generator = at::make_generator<at::CPUGeneratorImpl>(seed);
  const auto places = at::randint(0, text.size(0) - context, {count, 1}, generator, at::TensorOptions(at::kLong));
  return text.index({places + at::arange(context + 1)});
}

}  // namespace hopfield::lm
