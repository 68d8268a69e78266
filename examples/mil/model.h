#pragma once

#include "options.h"
#include <hopfield/hopfield.h>

#include <torch/nn/modules/linear.h>

#include <string>

namespace hopfield::mil {

/// The options of a model, without those of its training.
struct ModelOptions {
  int64_t features = 0, embedding = 64, heads = 8, hidden = 32;
  double beta = 0;
  int64_t update_steps = 0;
  double dropout = 0, embedding_dropout = 0;
};

ModelOptions model_options(const TrainOptions& options, int64_t features);

/// Passes each instance through two ReLU layers, pools the bag with HopfieldPooling and returns one number for it: the
/// logit of the positive class.
class MilModelImpl : public torch::nn::Module {
 public:
  explicit MilModelImpl(const ModelOptions& options);

  at::Tensor forward(const BagBatch& bags);  ///< [bags]
  /// Sets the CPU generator of all dropout. Undefined: LibTorch's default generator.
  void set_generator(const at::Generator& generator);
  /// The weight of each instance in its bag, averaged over the heads. [total]
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

/// A trained model and the standardizer of its inputs, which are saved in one file.
struct TrainedModel {
  MilModel model{nullptr};
  data::Standardizer standardizer;

  void save(const std::string& path) const;
  /// @throws UsageError if the file was not written by save()
  static TrainedModel load(const std::string& path);
};

}  // namespace hopfield::mil
