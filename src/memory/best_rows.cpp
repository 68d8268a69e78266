#include "memory/best_rows.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <limits>

namespace hopfield::memory::detail {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// The scores of a tile of queries and rows are reduced to the maximum of each block of rows. The k best rows are in the
// k blocks with the highest maxima, and only the scores of these blocks are computed again and sorted.
constexpr int64_t kBlock = 64;
// A tile of scores stays in the cache of the thread that computes it.
constexpr int64_t kTileRows = 16 * kBlock;
constexpr int64_t kTileQueries = 128;
// The maxima of that many queries are held at a time.
constexpr int64_t kHeldQueries = 1024;
// Most numbers of candidate rows that are gathered at a time.
constexpr int64_t kGathered = int64_t{1} << 22;

int64_t parts(int64_t size, int64_t part) { return (size + part - 1) / part; }

/// Queries, ready for products with rows.
struct Queries {
  at::Tensor centred;  // [m, d]
  at::Tensor offset;   // [m, 1]: what the centre of the rows takes from each score; undefined: nothing

  Queries narrow(int64_t first, int64_t count) const {
    return {centred.narrow(0, first, count), offset.defined() ? offset.narrow(0, first, count) : offset};
  }
};

Queries centred(const at::Tensor& queries, double centre) {
  if (centre == 0.0) return {queries, {}};
  const auto shifted = queries - centre;
  return {shifted, shifted.sum(-1, /*keepdim=*/true) * -centre};
}

/// Writes the maximum of each block of a tile of rows, which begins at row `first`. maxima [m, blocks of the tile]
void tile_maxima(const Queries& queries, const at::Tensor& rows, int64_t first, const Similarity& similarity,
                 at::Tensor maxima) {
  const auto length = rows.size(0), padded = maxima.size(1) * kBlock;
  auto scores = at::empty({queries.centred.size(0), padded}, rows.options());
  auto tile = scores.narrow(1, 0, length);
  at::mm_out(tile, queries.centred, rows.t());
  if (queries.offset.defined()) tile.add_(queries.offset);
  if (similarity.scale.defined()) tile.mul_(similarity.scale.narrow(0, first, length));
  if (similarity.bias.defined()) tile.add_(similarity.bias.narrow(0, first, length));
  if (padded > length) scores.narrow(1, length, padded - length).fill_(-kInfinity);
  at::amax_out(maxima, scores.unflatten(1, {maxima.size(1), kBlock}), -1);
}

/// The maximum of each block [m, blocks] over all rows.
at::Tensor block_maxima(const Queries& queries, const at::Tensor& rows, const Similarity& similarity) {
  const auto count = rows.size(0), queries_count = queries.centred.size(0);
  auto maxima = at::empty({queries_count, parts(count, kBlock)}, rows.options());
  const auto query_tiles = parts(queries_count, kTileQueries), row_tiles = parts(count, kTileRows);
  const auto compute = [&](int64_t begin, int64_t end) {
    const at::NoGradGuard no_grad;  // each thread has a gradient mode of its own
    for (int64_t tile = begin; tile < end; ++tile) {
      const auto row = tile / query_tiles * kTileRows, query = tile % query_tiles * kTileQueries;
      const auto length = std::min(kTileRows, count - row), height = std::min(kTileQueries, queries_count - query);
      tile_maxima(queries.narrow(query, height), rows.narrow(0, row, length), row, similarity,
                  maxima.narrow(0, query, height).narrow(1, row / kBlock, parts(length, kBlock)));
    }
  };
  if (rows.is_cpu()) {
    at::parallel_for(0, query_tiles * row_tiles, 1, compute);
  } else {
    compute(0, query_tiles * row_tiles);
  }
  return maxima;
}

/// The k best of the rows in the given blocks [m, b].
BestMatches best_in_blocks(const Queries& queries, const at::Tensor& rows, int64_t k, const Similarity& similarity,
                           const at::Tensor& blocks) {
  const auto count = rows.size(0);
  // In ascending order, so that equal rows come as they were stored.
  const auto ordered = std::get<0>(blocks.sort(-1));
  auto indices = (ordered.unsqueeze(-1) * kBlock + at::arange(kBlock, ordered.options())).flatten(1);  // [m, b * 64]
  const auto outside = indices >= count;
  indices = indices.clamp_max(count - 1);
  const auto candidates = rows.index_select(0, indices.flatten()).view({indices.size(0), indices.size(1), -1});
  auto scores = at::bmm(candidates, queries.centred.unsqueeze(-1)).squeeze(-1);
  if (queries.offset.defined()) scores.add_(queries.offset);
  if (similarity.scale.defined()) scores.mul_(similarity.scale.index({indices}));
  if (similarity.bias.defined()) scores.add_(similarity.bias.index({indices}));
  scores.masked_fill_(outside, -kInfinity);
  auto [sorted, order] = scores.sort(/*stable=*/true, -1, /*descending=*/true);
  return {indices.gather(1, order.narrow(1, 0, k)), sorted.narrow(1, 0, k)};
}

}  // namespace

BestMatches best_rows(const at::Tensor& queries, const at::Tensor& rows, int64_t k, const Similarity& similarity) {
  const auto found = std::min(k, rows.size(0));
  BestMatches best{at::full({queries.size(0), k}, -1, queries.options().dtype(at::kLong)),
                   at::full({queries.size(0), k}, std::numeric_limits<double>::quiet_NaN(), queries.options())};
  for (int64_t first = 0; first < queries.size(0); first += kHeldQueries) {
    const auto held =
        centred(queries.narrow(0, first, std::min(kHeldQueries, queries.size(0) - first)), similarity.centre);
    const auto maxima = block_maxima(held, rows, similarity);
    const auto count = std::min(found, maxima.size(1));
    const auto blocks = count == 1 ? maxima.argmax(-1, /*keepdim=*/true) : std::get<1>(maxima.topk(count, -1));
    const auto step = std::max<int64_t>(1, kGathered / (count * kBlock * rows.size(1)));
    for (int64_t at = 0; at < blocks.size(0); at += step) {
      const auto length = std::min(step, blocks.size(0) - at);
      const auto result =
          best_in_blocks(held.narrow(at, length), rows, found, similarity, blocks.narrow(0, at, length));
      best.indices.narrow(0, first + at, length).narrow(1, 0, found).copy_(result.indices);
      best.values.narrow(0, first + at, length).narrow(1, 0, found).copy_(result.values);
    }
  }
  return best;
}

BestMatches nearest_rows(const at::Tensor& queries, const at::Tensor& rows, const at::Tensor& squared_norms,
                         int64_t k) {
  auto best = best_rows(queries, rows, k, {0.0, {}, squared_norms.mul(-0.5).to(rows.scalar_type())});
  // The products have cancelled: the few distances that are asked for are computed from the differences.
  for (int64_t i = 0; i < k; ++i) {
    const auto nearest = rows.index_select(0, best.indices.select(1, i).clamp_min(0));
    auto value = best.values.select(1, i);
    value.copy_(at::where(value.isnan(), value, (queries - nearest).pow_(2).sum(-1).mul_(-0.5)));
  }
  return best;
}

}  // namespace hopfield::memory::detail
