#include "predict.h"

#include "model.h"
#include "report.h"

#include <ATen/ATen.h>

#include <fmt/format.h>

#include <algorithm>

namespace hopfield::mil {
namespace {

/// "4 (0.61), 0 (0.22)": positions within the bag and their share of the association.
std::string name_instances(const at::Tensor& weights, int64_t top) {
  const auto count = std::min(top, weights.size(0));
  const auto [values, positions] = weights.topk(count);
  std::string text;
  for (int64_t i = 0; i < count; ++i) {
    text += fmt::format("{}{} ({:.2f})", i == 0 ? "" : ", ", positions[i].item<int64_t>(), values[i].item<double>());
  }
  return text;
}

}  // namespace

void predict(const PredictOptions& options) {
  auto trained = TrainedModel::load(options.model);
  const auto table = data::read_mil_csv(resolve_data(options.data));
  if (table.features != trained.model->options.features) {
    throw UsageError{fmt::format("--data: expected {} features like the model, got {} in '{}'",
                                 trained.model->options.features, table.features, options.data)};
  }
  const at::Device device(options.device);
  trained.model->to(device);
  trained.model->eval();
  if (!options.quiet) {
    fmt::print("hopfield {}, model {} on device {}: {} bags\n", version(), options.model, options.device,
               table.bags.size());
  }

  torch::NoGradGuard no_grad;
  std::string csv = "bag,score,instance,weight\n";
  std::vector<double> logits;
  for (size_t i = 0; i < table.bags.size(); ++i) {
    const auto bag = BagBatch::from({Bag{trained.standardizer.apply(table.bags[i].instances), 0}}).to(device);
    logits.push_back(trained.model->forward(bag).item<double>());
    const double score = 1 / (1 + std::exp(-logits.back()));
    const auto weights = trained.model->instance_weights(bag).to(at::kCPU, at::kDouble);
    if (options.top > 0 && !options.quiet) {
      fmt::print("{}: {:.4f}  decided by instances {}\n", table.bag_ids[i], score,
                 name_instances(weights, options.top));
    } else {
      fmt::print("{}: {:.4f}\n", table.bag_ids[i], score);
    }
    for (int64_t k = 0; k < weights.size(0); ++k) {
      csv += fmt::format("{},{:.9g},{},{:.9g}\n", csv_cell(table.bag_ids[i]), score, k, weights.data_ptr<double>()[k]);
    }
  }
  if (!options.scores.empty()) io::write_file(options.scores, csv);
  const auto labels = table.labels();
  const auto is_binary = labels.eq(0).logical_or(labels.eq(1)).all().item<bool>() &&
                         labels.min().item<double>() < labels.max().item<double>();
  if (is_binary && !options.quiet) {
    fmt::print("ROC AUC against the file's labels {:.4f}\n", data::roc_auc(at::tensor(logits, at::kDouble), labels));
  }
}

}  // namespace hopfield::mil
