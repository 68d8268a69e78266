#pragma once

#include "options.h"
#include "text.h"
#include <hopfield/nn/transformer.h>
#include <hopfield/theory/heads.h>

#include <torch/nn/modules/embedding.h>
#include <torch/nn/modules/transformerlayer.h>

#include <vector>

namespace hopfield::lm {

/// A transformer that predicts the next character: embeddings of characters and places, layers whose self-association
/// is causal, and a linear layer. All layers normalise behind their residual connections, as LibTorch's do.
class LanguageModelImpl : public torch::nn::Module {
 public:
  /// @param uses_torch  LibTorch's layers in place of Hopfield layers
  LanguageModelImpl(int64_t vocabulary, const ModelOptions& options, bool uses_torch);

  /// @param characters  [N, L] int64, L at most the context
  /// @return            logits [N, L, vocabulary]
  at::Tensor forward(const at::Tensor& characters);
  /// The mean cross-entropy of the characters behind each place of windows [N, L + 1], in nats.
  at::Tensor loss(const at::Tensor& windows);
  /// What the heads of each layer do for characters [N, L]. Hopfield layers only.
  std::vector<theory::HeadClasses> head_classes(const at::Tensor& characters);
  /// The inverse temperatures of all heads, layer after layer.
  std::vector<double> betas() const;
  /// Copies the weights of a model with LibTorch's layers.
  void copy_from(const LanguageModelImpl& torch_model);

 private:
  at::Tensor embed(const at::Tensor& characters);
  at::Tensor pass(size_t layer, const at::Tensor& x);

  int64_t context_;
  torch::nn::Embedding characters_{nullptr}, places_{nullptr};
  std::vector<nn::HopfieldEncoderLayer> hopfield_layers_;
  std::vector<torch::nn::TransformerEncoderLayer> torch_layers_;
  torch::nn::Linear head_{nullptr};
};
TORCH_MODULE(LanguageModel);

/// Lets a model continue a text by `length` characters.
std::string write_text(LanguageModel& model, const Vocabulary& vocabulary, int64_t context,
                       const SampleOptions& options);

/// A model that was trained, with all that is needed to let it write.
struct SavedModel {
  LanguageModel model{nullptr};
  Vocabulary vocabulary;
  ModelOptions options;
};
void save_model(const std::string& path, const SavedModel& saved);
/// @throws UsageError if the file is not one that save_model() wrote
SavedModel load_model(const std::string& path);

}  // namespace hopfield::lm
