#include "input_checks.h"

#include "common/digest.h"
#include "report.h"

#include <ATen/ATen.h>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>

namespace hopfield::mil {
namespace {

std::string digest_of(const std::string& path, const data::MilTable& table) {
  examples::Digest digest;
  digest.add_file(path);
  for (size_t i = 0; i < table.bags.size(); ++i) {
    const auto values = table.bags[i].instances.contiguous();
    digest.add(table.bag_ids[i]);
    digest.add(&table.bags[i].label, sizeof(table.bags[i].label));
    digest.add(values.const_data_ptr(), values.nbytes());
  }
  return digest.text();
}

}  // namespace

void check_sizes(const data::MilTable& table, const TrainOptions& o) {
  const auto bags = static_cast<int64_t>(table.bags.size());
  const auto positive = table.labels().sum().item<int64_t>();
  const auto rarer = std::min(positive, bags - positive);
  if (rarer < 2) {
    throw UsageError{
        fmt::format("--data: expected at least 2 bags of each class, got {} of one; each fold trains and "
                    "tests on both",
                    rarer)};
  }
  if (o.folds > rarer) {
    throw UsageError{fmt::format("--folds: expected at most {} folds, the number of bags of the rarer class, got {}",
                                 rarer, o.folds)};
  }
  // Training keeps four numbers for each weight (its value, its gradient and two moments): 4 GiB with this limit.
  constexpr double kMostWeights = 1 << 28;
  const auto embedding = static_cast<double>(o.embedding), space = static_cast<double>(o.heads * o.hidden);
  const auto weights = embedding * (static_cast<double>(table.features) + embedding + 4 * space);
  if (weights > kMostWeights) {
    throw UsageError{
        fmt::format("--embedding, --heads, --hidden: expected a model of at most {:.0f} weights, got "
                    "{:.0f}; choose smaller ones",
                    kMostWeights, weights)};
  }
}

std::string identify_run(const std::string& path, const data::MilTable& table, const TrainOptions& options) {
  auto description = nlohmann::ordered_json::parse(describe_run(table, options));
  description["digest of the data"] = digest_of(path, table);
  return description.dump();
}

}  // namespace hopfield::mil
