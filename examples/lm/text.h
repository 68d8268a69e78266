#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>

namespace hopfield::lm {

/// The characters that a model knows: the bytes of its text, each once, in order.
class Vocabulary {
 public:
  Vocabulary() = default;
  explicit Vocabulary(const std::string& text);

  int64_t size() const { return static_cast<int64_t>(bytes_.size()); }
  const std::string& bytes() const { return bytes_; }
  /// The numbers of the characters [length] int64. @throws UsageError, which begins with `option`, for others
  at::Tensor encode(const std::string& option, const std::string& text) const;
  char character(int64_t number) const { return bytes_[static_cast<size_t>(number)]; }

 private:
  std::string bytes_;
};

/// A text that is learned: the last tenth is for evaluation.
struct Corpus {
  Vocabulary vocabulary;
  at::Tensor train, evaluation;  // [characters] int64
  std::string digest;            // of the file
};

/// @param context  the number of characters that a model sees at a time
/// @throws UsageError if the file cannot be read, or is too short
Corpus read_corpus(const std::string& path, int64_t context);

/// `count` parts of the text at random places, which depend on the seed alone: [count, context + 1].
at::Tensor draw_windows(const at::Tensor& text, int64_t count, int64_t context, uint64_t seed);

}  // namespace hopfield::lm
