#pragma once

#include "options.h"
#include <hopfield/hopfield.h>

#include <torch/nn/modules/linear.h>

#include <string>

namespace hopfield::mil {

/// What a model is made of, without what it was trained with.
struct ModelOptions {
  int64_t features = 0, embedding = 64, heads = 8, hidden = 32;
  double beta = 0;
  int64_t update_steps = 0;
  double dropout = 0, embedding_dropout = 0;
};

ModelOptions model_options(const TrainOptions& options, int64_t features);

/// Instances through two ReLU layers, pooled by a trained state pattern, and one number for the bag: the logit of its
/// positive class.
class MilModelImpl : public torch::nn::Module {
 public:
  explicit MilModelImpl(const ModelOptions& options);

  at::Tensor forward(const BagBatch& bags);
  /// CPU generator of all dropout; undefined: LibTorch's default one.
  void set_generator(const at::Generator& generator);
  /// Weight of each instance in its bag, mean over the heads. [total]
  at::Tensor instance_weights(const BagBatch& bags);

  ModelOptions options;
  torch::nn::Linear embedding1{nullptr}, embedding2{nullptr}, output{nullptr};
  nn::HopfieldPooling pooling{nullptr};

 private:
  BagBatch embed(const BagBatch& bags);
  at::Tensor drop_features(const at::Tensor& values) const;

  at::Generator generator_;
};
TORCH_MODULE(MilModel);

/// A model and the scaling of its inputs, as they are kept in a file.
struct TrainedModel {
  MilModel model{nullptr};
  data::Standardizer standardizer;

  void save(const std::string& path) const;
  /// @throws UsageError if it is not such a file.
  static TrainedModel load(const std::string& path);
};

}  // namespace hopfield::mil
