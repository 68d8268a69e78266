#include "nn/association_pass.h"

#include "nn/appended_patterns.h"
#include "nn/association_route.h"
#include <hopfield/core/bags.h>
#include <hopfield/core/update.h>

#include <ATen/ATen.h>

#include <vector>

namespace hopfield::nn {
namespace {

/// Rows in each bag of ragged stored patterns, with those that were appended.
std::vector<int64_t> sizes_with_appended(const AssociationSettings& settings, std::vector<int64_t> sizes) {
  for (auto& size : sizes) size += appended_rows(settings);
  return sizes;
}

/// The association [N, H, L, S] of dense scores.
at::Tensor dense_association(const RetrieveResult& r, const Separation& separation) {
  if (separation.is_sparse()) return hopfield::core::association(r.scores, separation);
  return (r.scores - r.logsumexp.unsqueeze(-1)).exp().masked_fill(at::isneginf(r.scores), 0.0);
}

/// The association [total, H, L] of the scores of bags of these sizes.
at::Tensor ragged_association(const RetrieveResult& r, const Separation& separation,
                              const std::vector<int64_t>& sizes) {
  if (separation.is_sparse()) {
    std::vector<at::Tensor> bags;
    for (const auto& scores : r.scores.split_with_sizes(sizes)) {
      bags.push_back(hopfield::core::association(scores.movedim(0, -1), separation).movedim(-1, 0));
    }
    return bags.empty() ? r.scores.clone() : at::cat(bags);
  }
  const auto repeats = at::tensor(sizes, at::kLong).to(r.scores.device());
  const auto logsumexp = r.logsumexp.repeat_interleave(repeats, 0);
  return (r.scores - logsumexp).exp().masked_fill(at::isneginf(r.scores), 0.0);
}

}  // namespace

AssociationResult run_association(HopfieldImpl& layer, const AssociationCall& call) {
  auto& core = *layer.association_core;
  switch (choose_route(core.settings, call)) {
    case AssociationRoute::absorbed:
      return associate_absorbed(layer, call);
    case AssociationRoute::projected_together:
      return associate_projected(core, call, project_together(layer, call));
    case AssociationRoute::projected_one_by_one:
      break;
  }
  return associate_projected(core, call, project_one_by_one(layer, call));
}

RetrieveOptions retrieve_options(const AssociationCoreImpl& core, const AssociationRequest& request) {
  return RetrieveOptions(core.settings)
      .beta(core.beta())
      .dropout(core.is_training() ? core.settings.dropout : 0.0)
      .generator(core.generator_)
      .with_energy(request.energy())
      .with_scores(request.association());
}

AssociationResult finish(AssociationCoreImpl& core, const AssociationCall& call, const at::Tensor& merged,
                         const RetrieveResult& retrieved) {
  AssociationResult result{retrieved, {}};
  result.output = core.out_proj ? core.out_proj->forward(merged) : merged;
  if (!result.scores.defined()) return result;
  const auto& settings = core.settings;
  if (!call.offsets.defined()) {
    result.association = dense_association(retrieved, settings.separation);
    return result;
  }
  const auto sizes = bag_sizes(call.offsets, call.patterns.stored.size(0));
  const auto all = ragged_association(retrieved, settings.separation, sizes_with_appended(settings, sizes));
  result.association = without_appended(settings, all, sizes);
  result.scores = without_appended(settings, result.scores, sizes);
  return result;
}

}  // namespace hopfield::nn
