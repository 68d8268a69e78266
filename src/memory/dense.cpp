#include "memory/dense.h"

#include "memory/dense_updates.h"

#include <ATen/ATen.h>

#include <algorithm>

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
    serve(first, queries.narrow(0, first, count));
    first += step;
  } while (first < queries.size(0));
}

/// Writes what was found for a tile, which begins at row `first`, into the result for all `count` queries. What a tile
/// needs is freed with it then: small results that outlive it would keep its memory from being used by the next.
void write_tile(const at::Tensor& of_tile, int64_t first, int64_t count, at::Tensor& whole) {
  if (!whole.defined()) {
    auto sizes = of_tile.sizes().vec();
    sizes[0] = count;
    whole = at::empty(sizes, of_tile.options());
  }
  whole.narrow(0, first, of_tile.size(0)).copy_(of_tile);
}

}  // namespace

Recall recall_dense(const Interaction& interaction, const at::Tensor& patterns, const at::Tensor& queries,
                    const RecallSettings& settings) {
  const auto columns = patterns.t().to(at::kChar).contiguous().cpu();
  Recall whole;
  for_each_tile(patterns, queries, [&](int64_t first, const at::Tensor& some_queries) {
    const auto states = some_queries.clone(at::MemoryFormat::Contiguous);
    DenseTile tile{interaction, patterns, columns, states, overlaps_of(states, patterns)};
    auto part = make_sweeps(states, settings, [&](const Sweep& sweep, const at::Tensor& active) {
      return settings.update == Update::synchronous ? update_at_once(tile, sweep, active)
                                                    : update_in_order(tile, sweep, active);
    });
    part.energy = energies_of(interaction, tile.overlaps).to(queries.scalar_type());
    for (const auto member :
         {&Recall::state, &Recall::energy, &Recall::steps, &Recall::converged, &Recall::residual, &Recall::period}) {
      write_tile(part.*member, first, queries.size(0), whole.*member);
    }
  });
  return whole;
}

at::Tensor energies_dense(const Interaction& interaction, const at::Tensor& patterns, const at::Tensor& states) {
  at::Tensor whole;
  for_each_tile(patterns, states, [&](int64_t first, const at::Tensor& some_states) {
    write_tile(energies_of(interaction, overlaps_of(some_states, patterns)), first, states.size(0), whole);
  });
  return whole.to(states.scalar_type());
}

}  // namespace hopfield::memory::detail
