#pragma once

#include "options.h"
#include <hopfield/nn/transformer.h>
#include <hopfield/theory/heads.h>

#include <torch/nn/modules/embedding.h>
#include <torch/nn/modules/normalization.h>

#include <string>
#include <vector>

namespace hopfield::encoder {

/// Sequences of token ids, one after the other.
struct Tokens {
  at::Tensor ids;      // [total] int64
  at::Tensor offsets;  // [sentences + 1] int64: sentence n has the ids offsets[n] .. offsets[n + 1]

  int64_t size() const { return offsets.size(0) - 1; }
  /// The sentences from number `first` to before number `end`.
  Tokens part(int64_t first, int64_t end) const;
};

/// The sizes of a BERT encoder.
struct Sizes {
  int64_t layers = 0, heads = 0, width = 0, inner = 0, vocabulary = 0, positions = 0, types = 0;
  double layer_norm_eps = 1e-12;
};

/// A BERT encoder: embeddings of tokens, positions and types, and layers of self-association.
class SentenceEncoderImpl : public torch::nn::Module {
 public:
  SentenceEncoderImpl(const Sizes& sizes, const ModelOptions& options);

  const Sizes& sizes() const { return sizes_; }
  /// The mean of each sentence's tokens behind the last layer, with unit length [sentences, width].
  at::Tensor forward(const Tokens& tokens);
  /// What the heads of each layer do for sequences [N, L].
  std::vector<theory::HeadClasses> head_classes(const at::Tensor& ids);

 private:
  at::Tensor embed(const at::Tensor& ids, const at::Tensor& positions);

  Sizes sizes_;
  torch::nn::Embedding words_{nullptr}, positions_{nullptr}, types_{nullptr};
  torch::nn::LayerNorm norm_{nullptr};
  std::vector<nn::HopfieldEncoderLayer> layers_;
};
TORCH_MODULE(SentenceEncoder);

/// Reads a model's file, and config.json beside it.
/// @throws UsageError that names all tensors which are missing, unexpected, or of another shape
SentenceEncoder load_model(const ModelOptions& options);

}  // namespace hopfield::encoder
