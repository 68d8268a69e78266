#include "nn/association_pass.h"

#include "nn/appended_patterns.h"
#include "nn/association_route.h"
#include <hopfield/core/bags.h>

#include <ATen/ATen.h>

namespace hopfield::nn {

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
  auto logsumexp = result.logsumexp.unsqueeze(-1);  // [N, H, L, 1]
  if (call.offsets.defined()) {
    const auto sizes = bag_sizes(call.offsets, call.patterns.stored.size(0));
    result.scores = without_appended(core.settings, result.scores, sizes);  // [total, H, L]
    const auto repeats = at::tensor(sizes, at::kLong).to(result.scores.device());
    logsumexp = result.logsumexp.repeat_interleave(repeats, 0);
  }
  result.association = (result.scores - logsumexp).exp().masked_fill(at::isneginf(result.scores), 0.0);
  return result;
}

}  // namespace hopfield::nn
