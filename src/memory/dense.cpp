#include "memory/dense.h"

#include "memory/dense_updates.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <vector>

namespace hopfield::memory::detail {
namespace {

// Bytes of a tile: overlaps, half sums, and what is made on the way to them.
constexpr int64_t kTileBytes = int64_t{1} << 26;
constexpr int64_t kBytesOfOverlap = 24;

/// Calls `serve` with one tile of queries after the other.
template <typename Serve>
void for_each_tile(const at::Tensor& patterns, const at::Tensor& queries, const Serve& serve) {
  const auto step = std::max<int64_t>(1, kTileBytes / (kBytesOfOverlap * patterns.size(0)));
  int64_t first = 0;
  do {  // at least once: without queries, results have their shapes too
    const auto count = std::min(step, queries.size(0) - first);
    serve(queries.narrow(0, first, count));
    first += step;
  } while (first < queries.size(0));
}

Recall joined(const std::vector<Recall>& parts) {
  if (parts.size() == 1) return parts[0];
  Recall whole;
  for (const auto member :
       {&Recall::state, &Recall::energy, &Recall::steps, &Recall::converged, &Recall::residual, &Recall::period}) {
    std::vector<at::Tensor> tensors;
    for (const auto& part : parts) tensors.push_back(part.*member);
    whole.*member = at::cat(tensors);
  }
  return whole;
}

}  // namespace

Recall recall_dense(const Interaction& interaction, const at::Tensor& patterns, const at::Tensor& queries,
                    const RecallSettings& settings) {
  const auto columns = patterns.t().to(at::kChar).contiguous().cpu();
  std::vector<Recall> parts;
  for_each_tile(patterns, queries, [&](const at::Tensor& some_queries) {
    const auto states = some_queries.clone(at::MemoryFormat::Contiguous);
    DenseTile tile{interaction, patterns, columns, states, overlaps_of(states, patterns)};
    parts.push_back(make_sweeps(states, settings, [&](const Sweep& sweep, const at::Tensor& active) {
      return settings.update == Update::synchronous ? update_at_once(tile, sweep, active)
                                                    : update_in_order(tile, sweep, active);
    }));
    parts.back().energy = energies_of(interaction, tile.overlaps).to(queries.scalar_type());
  });
  return joined(parts);
}

at::Tensor energies_dense(const Interaction& interaction, const at::Tensor& patterns, const at::Tensor& states) {
  std::vector<at::Tensor> parts;
  for_each_tile(patterns, states, [&](const at::Tensor& some_states) {
    parts.push_back(energies_of(interaction, overlaps_of(some_states, patterns)));
  });
  return at::cat(parts).to(states.scalar_type());
}

}  // namespace hopfield::memory::detail
