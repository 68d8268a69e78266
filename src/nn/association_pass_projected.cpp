#include "nn/appended_patterns.h"
#include "nn/association_checks.h"
#include "nn/association_masks.h"
#include "nn/association_pass.h"
#include <hopfield/core/bags.h>

#include <ATen/ATen.h>

#include <vector>

namespace hopfield::nn {
namespace {

RetrieveInput retrieve_input(const AssociationCoreImpl& core, const AssociationCall& call,
                             const ProjectedPatterns& projected) {
  const auto& s = core.settings;
  const auto batch = batch_size(call, s.layer);
  const auto appended = appended_rows(s);
  const bool ragged = call.offsets.defined();
  const auto total = call.patterns.stored.size(0);
  std::vector<int64_t> sizes;
  if (ragged && appended > 0) sizes = bag_sizes(call.offsets, total);

  RetrieveInput input;
  // Queries that the batch or the heads share are projected once. expand() repeats them without copying.
  input.state = call.state_offsets.defined() ? projected.state : projected.state.expand({batch, -1, -1, -1});
  input.state_offsets = call.state_offsets;
  input.stored = append_patterns(s, projected.stored, core.bias_k, sizes);
  input.projection = append_patterns(s, projected.values, core.bias_v, sizes);
  if (ragged) {
    check_ragged_masks(call.masks, total, appended, s.layer);
    input.masks.is_causal = call.masks.is_causal;
    input.masks.key_bias = append_to_bias(s, call.masks.key_bias, sizes);
    input.offsets = call.offsets + at::arange(call.offsets.numel(), call.offsets.options()) * appended;
  } else {
    set_masks(input, call.masks, batch, s.num_heads, appended, s.layer);
  }
  return input;
}

}  // namespace

AssociationResult associate_projected(AssociationCoreImpl& core, const AssociationCall& call,
                                      const ProjectedPatterns& projected) {
  const auto r = retrieve(retrieve_input(core, call, projected), retrieve_options(core, call.request));
  const auto merged = call.state_offsets.defined() ? r.output.flatten(1) : r.output.transpose(1, 2).flatten(2);
  return finish(core, call, merged, r);
}

}  // namespace hopfield::nn
