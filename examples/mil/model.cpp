#include "model.h"

#include <ATen/CPUGeneratorImpl.h>

#include <nlohmann/json.hpp>

#include <cmath>

namespace hopfield::mil {
namespace {

constexpr auto kOptionsKey = "hopfield_mil.model";
constexpr auto kModelPrefix = "model.";

}  // namespace

ModelOptions model_options(const TrainOptions& options, int64_t features) {
  return {features,
          options.embedding,
          options.heads,
          options.hidden,
          options.beta.value_or(1 / std::sqrt(static_cast<double>(options.hidden))),
          options.update_steps,
          options.dropout,
          options.embedding_dropout};
}

MilModelImpl::MilModelImpl(const ModelOptions& given) : options(given) {
  embedding1 = register_module("embedding1", torch::nn::Linear(options.features, options.embedding));
  embedding2 = register_module("embedding2", torch::nn::Linear(options.embedding, options.embedding));
  pooling = register_module("pooling", nn::HopfieldPooling(nn::HopfieldPoolingOptions(options.embedding)
                                                               .num_heads(options.heads)
                                                               .hidden_size(options.hidden)
                                                               .scaling(options.beta)
                                                               .update_steps_max(options.update_steps)
                                                               .dropout(options.dropout)));
  output = register_module("output", torch::nn::Linear(options.embedding, 1));
}

BagBatch MilModelImpl::embed(const BagBatch& bags) {
  const auto hidden = torch::relu(embedding1->forward(drop_features(bags.values)));
  return {torch::relu(embedding2->forward(drop_features(hidden))), bags.offsets, bags.labels};
}

/// Dropout with the model's own generator, which torch::dropout does not accept.
at::Tensor MilModelImpl::drop_features(const at::Tensor& values) const {
  if (!is_training() || options.embedding_dropout == 0) return values;
  const double kept = 1 - options.embedding_dropout;
  const auto generator = generator_.defined() ? generator_ : at::detail::getDefaultCPUGenerator();
  const auto mask = at::empty(values.sizes(), at::kFloat).bernoulli_(kept, generator);
  return kept > 0 ? values * (mask / kept).to(values.device()) : at::zeros_like(values);
}

void MilModelImpl::set_generator(const at::Generator& generator) {
  generator_ = generator;
  pooling->set_generator(generator);
}

at::Tensor MilModelImpl::forward(const BagBatch& bags) {
  return output->forward(pooling->pool_bags(embed(bags))).squeeze(-1);
}

at::Tensor MilModelImpl::instance_weights(const BagBatch& bags) {
  torch::NoGradGuard no_grad;
  return pooling->instance_scores(embed(bags)).weights.mean({1, 2});
}

void TrainedModel::save(const std::string& path) const {
  const auto& o = model->options;
  const nlohmann::ordered_json description{{"features", o.features}, {"embedding", o.embedding},
                                           {"heads", o.heads},       {"hidden", o.hidden},
                                           {"beta", o.beta},         {"update_steps", o.update_steps},
                                           {"dropout", o.dropout},   {"embedding_dropout", o.embedding_dropout}};
  io::TensorDict tensors;
  for (const auto& entry : io::state_dict(*model)) tensors.insert(kModelPrefix + entry.key(), entry.value());
  tensors.insert("standardizer.mean", standardizer.mean);
  tensors.insert("standardizer.scale", standardizer.scale);
  io::save_safetensors(path, tensors, {{kOptionsKey, description.dump()}});
}

TrainedModel TrainedModel::load(const std::string& path) {
  const auto file = reading("--model", [&] { return io::load_safetensors(path); });
  const auto text = file.metadata.find(kOptionsKey);
  if (text == file.metadata.end()) {
    throw UsageError{"--model: expected a file written by --save-model, got '" + path +
                     "', which has no description of a model"};
  }
  try {
    const auto description = nlohmann::json::parse(text->second);
    ModelOptions o;
    o.features = description.at("features");
    o.embedding = description.at("embedding");
    o.heads = description.at("heads");
    o.hidden = description.at("hidden");
    o.beta = description.at("beta");
    o.update_steps = description.at("update_steps");
    o.dropout = description.at("dropout");
    o.embedding_dropout = description.at("embedding_dropout");
    // Checked against the tensors in the file before the model is made: a wrong description must not make the program
    // allocate large amounts of memory.
    const auto* weight = file.tensors.find(std::string(kModelPrefix) + "embedding1.weight");
    const auto* space = file.tensors.find(std::string(kModelPrefix) + "pooling.hopfield.association_core.in_proj_bias");
    const auto* mean = file.tensors.find("standardizer.mean");
    const auto* scale = file.tensors.find("standardizer.scale");
    TORCH_CHECK(weight && space && mean && scale && weight->sizes() == at::IntArrayRef({o.embedding, o.features}) &&
                    mean->sizes() == at::IntArrayRef({o.features}) && scale->sizes() == mean->sizes() && o.heads > 0 &&
                    o.hidden > 0 && o.heads < (1 << 20) && o.hidden < (1 << 20) &&
                    space->numel() == 3 * o.heads * o.hidden,
                "expected tensors of the model that the file describes, got other shapes or names");
    TrainedModel trained;
    trained.model = MilModel(o);
    io::TensorDict weights;
    for (const auto& entry : file.tensors) {
      if (entry.key().rfind(kModelPrefix, 0) == 0)
        weights.insert(entry.key().substr(std::string(kModelPrefix).size()), entry.value());
    }
    io::load_state_dict(*trained.model, weights);
    trained.standardizer = {*mean, *scale};
    return trained;
  } catch (const nlohmann::json::exception&) {
    throw UsageError{"--model: expected a description of the model in '" + path + "', got '" +
                     text->second.substr(0, 80) + "'"};
  } catch (const c10::Error& error) {
    throw UsageError{"--model: '" + path + "': " + examples::plain_message(error)};
  }
}

}  // namespace hopfield::mil
