#include "predict.h"

#include "common/console.h"
#include "common/output_files.h"
#include "common/report.h"
#include "data_options.h"
#include "model.h"
#include "report.h"

#include <ATen/ATen.h>

#include <fmt/format.h>

#include <algorithm>

namespace hopfield::mil {
namespace {

/// The instances with the largest weights, as positions within the bag with their weights: "4 (0.61), 0 (0.22)".
std::string name_instances(const at::Tensor& weights, int64_t top) {
  const auto count = std::min(top, weights.size(0));
  const auto [values, positions] = weights.topk(count);
  std::string text;
  for (int64_t i = 0; i < count; ++i) {
    text += fmt::format("{}{} ({:.2f})", i == 0 ? "" : ", ", positions[i].item<int64_t>(), values[i].item<double>());
  }
  return text;
}

/// How well the scores agree with the labels of the file, if it has labels. The higher label is the positive one.
std::string agreement(const data::MilTable& table, const std::vector<double>& logits) {
  const auto labels = table.labels();
  const auto labelled = labels.isnan().logical_not().nonzero().squeeze(1);
  if (labelled.numel() == 0) return "no ROC AUC, because the file has no labels";
  const auto known = labels.index_select(0, labelled);
  const auto scores = at::tensor(logits, at::kDouble).index_select(0, labelled);
  const auto classes = std::get<0>(at::_unique(known)).numel();
  if (classes != 2) return fmt::format("no ROC AUC, because the file's labels are of {} classes, not 2", classes);
  const auto auc = data::roc_auc(scores, data::binary_labels(known));
  const auto of = labelled.numel() < labels.numel() ? fmt::format(" of {} bags", labelled.numel()) : std::string();
  return fmt::format("ROC AUC against the file's labels{} {:.4f}", of, auc);
}

}  // namespace

int predict(const PredictOptions& options) {
  auto trained = TrainedModel::load(options.model);
  const auto table = read_bags_to_score(resolve_data(options.data), options.csv, trained.model->options.features);
  const at::Device device(options.device);
  trained.model->to(device);
  trained.model->eval();
  if (!options.quiet) {
    examples::print(fmt::format(
        "hopfield {}, model {} on device {}: {} bags{}{}", version(), options.model, options.device, table.bags.size(),
        table.labels().isnan().all().item<bool>() ? " without labels" : "", table_notes(table)));
  }

  torch::NoGradGuard no_grad;
  std::string csv = "bag,score,instance,weight\n";
  std::vector<double> logits;
  for (size_t i = 0; i < table.bags.size(); ++i) {
    const auto instances = trained.standardizer.apply_with_missing(table.bags[i].instances);
    const auto bag = BagBatch::from({Bag{instances, 0}}).to(device);
    logits.push_back(trained.model->forward(bag).item<double>());
    const double score = 1 / (1 + std::exp(-logits.back()));
    const auto weights = trained.model->instance_weights(bag).to(at::kCPU, at::kDouble);
    const bool names_instances = options.top > 0 && !options.quiet;
    examples::print(
        fmt::format("{}: {:.4f}{}", table.bag_ids[i], score,
                    names_instances ? "  decided by instances " + name_instances(weights, options.top) : ""));
    for (int64_t k = 0; k < weights.size(0); ++k) {
      csv += fmt::format("{},{:.9g},{},{:.9g}\n", csv_cell(table.bag_ids[i]), score, k, weights.data_ptr<double>()[k]);
    }
  }
  examples::OutputFiles files;
  files.write({"--scores", options.scores}, [&](const auto& path) { io::write_file(path, csv); });
  if (!options.quiet) {
    examples::print(agreement(table, logits));
    for (const auto& path : files.written()) examples::print("wrote " + path);
  }
  return examples::report_failures("hopfield_mil", files);
}

}  // namespace hopfield::mil
