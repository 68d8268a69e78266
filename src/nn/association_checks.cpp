#include "nn/association_checks.h"

#include "nn/association_sizes.h"

#include <ATen/ATen.h>
#include <ATen/autocast_mode.h>

#include <optional>

#define HOPFIELD_CHECK(condition, ...) TORCH_CHECK(condition, layer, ": ", __VA_ARGS__)

namespace hopfield::nn {

void check_patterns(const AssociationCoreImpl& core, const AssociationInput& patterns, const at::Tensor& state_offsets,
                    const at::Tensor& offsets) {
  const auto& s = core.settings;
  const auto sizes = sizes_of(s);
  const auto& layer = s.layer;
  const bool ragged = offsets.defined(), ragged_state = state_offsets.defined();
  HOPFIELD_CHECK(ragged || !ragged_state,
                 "expected offsets of the stored patterns together with state_offsets, got "
                 "none; sequences that attend to themselves have the same offsets twice");
  const auto check = [&](const at::Tensor& tensor, const char* name, int64_t dimensions, std::optional<int64_t> width) {
    const auto shape = dimensions == 2 ? "[total, size]" : s.batch_first ? "[N, rows, size]" : "[rows, N, size]";
    HOPFIELD_CHECK(tensor.defined(), "expected ", name, " to have shape ", shape, ", got an undefined tensor");
    HOPFIELD_CHECK(!tensor.is_nested() && tensor.layout() == at::kStrided, "expected ", name,
                   " to be a dense tensor, got ", tensor.is_nested() ? "a nested one" : c10::str(tensor.layout()),
                   "; ragged patterns are concatenated, with offsets, for associate_bags() and pool_bags()");
    HOPFIELD_CHECK(tensor.dim() == dimensions, "expected ", name, " to have ", dimensions, " dimensions ", shape,
                   ", got ", tensor.sizes());
    HOPFIELD_CHECK(!width || tensor.size(-1) == *width, "expected ", name, " to have size ", width.value_or(0),
                   " in its last dimension, got ", tensor.sizes());
    HOPFIELD_CHECK(at::isFloatingType(tensor.scalar_type()), "expected ", name, " to have a floating-point type, got ",
                   tensor.scalar_type());
  };
  const bool data_decide = sizes.all_static || (s.state_pattern_as_static && s.stored_pattern_as_static);
  const std::optional<int64_t> any;
  check(patterns.state, "state", ragged_state ? 2 : 3,
        data_decide                 ? any
        : s.state_pattern_as_static ? sizes.hidden
                                    : sizes.state);
  check(patterns.stored, "stored", ragged ? 2 : 3,
        data_decide                  ? patterns.state.size(-1)
        : s.stored_pattern_as_static ? sizes.hidden
                                     : sizes.stored);
  const bool value_is_used_as_is =
      s.pattern_projection_as_static && !(s.pattern_projection_as_connected && !s.stored_pattern_as_static);
  check(patterns.projection, "projection", ragged ? 2 : 3,
        !value_is_used_as_is       ? sizes.projection
        : s.disable_out_projection ? any
                                   : sizes.pattern);
  const auto row_dimension = ragged ? 0 : 1;
  HOPFIELD_CHECK(patterns.stored.size(row_dimension) == patterns.projection.size(row_dimension),
                 "expected projection to have as many patterns as stored, ", patterns.stored.size(row_dimension),
                 ", got ", patterns.projection.size(row_dimension));
  const auto parameters = core.parameters();
  if (parameters.empty()) return;
  const auto& parameter = parameters.front();
  const bool has_autocast = parameter.is_cpu() || parameter.is_cuda();
  if (!has_autocast || !at::autocast::is_autocast_enabled(parameter.device().type())) {
    for (const auto* tensor : {&patterns.state, &patterns.stored, &patterns.projection}) {
      HOPFIELD_CHECK(tensor->scalar_type() == parameter.scalar_type() && tensor->device() == parameter.device(),
                     "expected stored, state and projection to be of type ", parameter.scalar_type(), " on ",
                     parameter.device(), " like the parameters, got ", tensor->scalar_type(), " on ", tensor->device(),
                     "; convert the input, or the module with to()");
    }
  }
}

int64_t batch_size(const AssociationCall& call, const std::string& layer) {
  const auto& patterns = call.patterns;
  if (call.offsets.defined()) {
    const auto bags = call.offsets.numel() - 1;
    HOPFIELD_CHECK(call.state_offsets.defined() || patterns.state.size(0) == bags || patterns.state.size(0) == 1,
                   "expected state to have batch size ", bags, ", the number of bags, or 1, got ",
                   patterns.state.sizes());
    return bags;
  }
  int64_t batch = 1;
  for (const auto* tensor : {&patterns.state, &patterns.stored, &patterns.projection}) {
    if (batch == 1) batch = tensor->size(0);
    HOPFIELD_CHECK(tensor->size(0) == batch || tensor->size(0) == 1,
                   "expected stored, state and projection to have one batch size, or 1, got ", patterns.stored.size(0),
                   ", ", patterns.state.size(0), " and ", patterns.projection.size(0));
  }
  return batch;
}

}  // namespace hopfield::nn
