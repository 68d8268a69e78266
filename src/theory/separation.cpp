#include "theory/pattern_checks.h"
#include "theory/tiles.h"
#include <hopfield/theory/separation.h>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

namespace hopfield::theory {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// The products of all pairs of patterns are made in square tiles, each of which serves its rows and its columns, as the
// products are symmetric. A pattern remembers in which block of others its largest product is. Only the products with
// that block are made again, in float64.
constexpr int64_t kBlock = 64;
constexpr int64_t kTile = 16 * kBlock;
constexpr const char* kTheory = "hopfield::theory";

void check_set(int64_t count, double largest_norm) {
  TORCH_CHECK(count >= 2, "hopfield::theory: expected at least 2 patterns, got ", count);
  TORCH_CHECK(largest_norm > 0 && std::isfinite(largest_norm),
              "hopfield::theory: expected patterns with a positive and finite largest norm, got ", largest_norm);
}

/// The largest product of each pattern with another one, as far as known, and the block that it is in.
struct Largest {
  at::Tensor value, block;  // [N]

  explicit Largest(const at::Tensor& patterns)
      : value(at::full({patterns.size(0)}, -kInfinity, patterns.options())),
        block(at::zeros({patterns.size(0)}, patterns.options().dtype(at::kLong))) {}

  /// Takes larger products of the patterns from `first` on. Of equal ones, the first block counts.
  void take(int64_t first, const at::Tensor& values, const at::Tensor& blocks) {
    auto value_here = value.narrow(0, first, values.size(0)), block_here = block.narrow(0, first, values.size(0));
    const auto is_better = (values > value_here).logical_or_((values == value_here).logical_and_(blocks < block_here));
    value_here.copy_(at::where(is_better, values, value_here));
    block_here.copy_(at::where(is_better, blocks, block_here));
  }
};

/// The products of the patterns of one tile with those of another, whose blocks are reduced for both.
void take_tile(const at::Tensor& patterns, int64_t row, int64_t column, at::Tensor products, Largest& largest) {
  const auto rows = std::min(kTile, patterns.size(0) - row), columns = std::min(kTile, patterns.size(0) - column);
  if (rows < kTile || columns < kTile) products.fill_(-kInfinity);
  auto target = products.narrow(0, 0, rows).narrow(1, 0, columns);
  at::mm_out(target, patterns.narrow(0, row, rows), patterns.narrow(0, column, columns).t());
  const auto take = [&](int64_t first, int64_t count, const at::Tensor& maxima, int64_t first_block) {
    const auto [value, block] = maxima.max(0);  // [blocks, kTile]
    largest.take(first, value.narrow(0, 0, count), block.narrow(0, 0, count) + first_block);
  };
  if (row == column) {
    target.fill_diagonal_(-kInfinity);
  } else {
    take(row, rows, products.unflatten(1, {-1, kBlock}).amax(2).t(), column / kBlock);
  }
  take(column, columns, products.unflatten(0, {-1, kBlock}).amax(1), row / kBlock);
}

Largest largest_products(const at::Tensor& patterns) {
  std::vector<std::pair<int64_t, int64_t>> tiles;
  for (int64_t column = 0; column < patterns.size(0); column += kTile) {
    for (int64_t row = 0; row <= column; row += kTile) tiles.emplace_back(row, column);
  }
  std::vector<Largest> of_threads;
  const int threads = patterns.is_cpu() ? at::get_num_threads() : 1;
  for (int i = 0; i < threads; ++i) of_threads.emplace_back(patterns);
  const auto compute = [&](int64_t begin, int64_t end) {
    const at::NoGradGuard no_grad;  // each thread has a gradient mode of its own
    auto& largest = of_threads[patterns.is_cpu() ? at::get_thread_num() : 0];
    const auto products = at::empty({kTile, kTile}, patterns.options());
    for (auto i = begin; i < end; ++i) take_tile(patterns, tiles[i].first, tiles[i].second, products, largest);
  };
  const auto count = static_cast<int64_t>(tiles.size());
  if (patterns.is_cpu()) {
    at::parallel_for(0, count, 1, compute);
  } else {
    compute(0, count);
  }
  for (size_t i = 1; i < of_threads.size(); ++i) of_threads[0].take(0, of_threads[i].value, of_threads[i].block);
  return of_threads[0];
}

}  // namespace

PatternSeparation pattern_separation(const at::Tensor& patterns) {
  TORCH_CHECK(patterns.dim() == 2 && patterns.size(0) >= 2,
              "hopfield::theory: expected at least 2 patterns [N, d], got a tensor of the shape ", patterns.sizes());
  TORCH_CHECK(patterns.scalar_type() == at::kFloat || patterns.scalar_type() == at::kDouble,
              "hopfield::theory: expected patterns of type Float or Double, got ", patterns.scalar_type());
  TORCH_CHECK(at::isfinite(patterns).all().item<bool>(),
              "hopfield::theory: expected finite patterns, got infinity or NaN");
  const at::NoGradGuard no_grad;
  const auto all = patterns.detach().contiguous();
  const auto count = all.size(0), width = all.size(1);
  const auto blocks = largest_products(all).block;
  PatternSeparation separation;
  separation.delta = at::empty({count}, all.options().dtype(at::kDouble));
  separation.nearest = at::empty({count}, all.options().dtype(at::kLong));
  const auto in_block = at::arange(kBlock, blocks.options());
  for_row_tiles(count, kBlock * width, [&](int64_t first, int64_t length) {
    const auto rows = all.narrow(0, first, length).to(at::kDouble);
    const auto own = at::arange(first, first + length, blocks.options()).unsqueeze(1);
    const auto others = blocks.narrow(0, first, length).unsqueeze(1) * kBlock + in_block;  // [length, kBlock]
    const auto candidates =
        all.index_select(0, others.clamp_max(count - 1).flatten()).view({length, kBlock, width}).to(at::kDouble);
    auto products = at::bmm(candidates, rows.unsqueeze(2)).squeeze(2);
    products.masked_fill_((others >= count).logical_or_(others == own), -kInfinity);
    const auto nearest = others.gather(1, products.argmax(1, /*keepdim=*/true)).squeeze(1);
    separation.nearest.narrow(0, first, length).copy_(nearest);
    const auto difference = rows - all.index_select(0, nearest).to(at::kDouble);
    separation.delta.narrow(0, first, length).copy_((rows * difference).sum(-1));
  });
  separation.largest_norm = all.norm(2, {1}, false, at::kDouble).max().item<double>();
  return separation;
}

double required_separation(int64_t count, double beta, double largest_norm) {
  check_set(count, largest_norm);
  check_beta(kTheory, beta);
  const auto n = static_cast<double>(count);
  return 2 / (beta * n) + std::log(2 * (n - 1) * n * beta * largest_norm * largest_norm) / beta;
}

double sphere_radius(int64_t count, double beta, double largest_norm) {
  check_set(count, largest_norm);
  check_beta(kTheory, beta);
  return 1 / (beta * static_cast<double>(count) * largest_norm);
}

double separating_beta(double delta, int64_t count, double largest_norm) {
  check_set(count, largest_norm);
  TORCH_CHECK(!std::isnan(delta), "hopfield::theory: expected a number as separation, got ", delta);
  if (delta <= 0) return kInfinity;
  // What is required, (c + ln(a beta)) / beta, rises up to the beta of this peak and then falls towards 0.
  const auto n = static_cast<double>(count);
  const double a = 2 * (n - 1) * n * largest_norm * largest_norm, c = 2 / n;
  const double peak = std::exp(1 - c) / a;
  const auto is_met = [&](double beta) { return (c + std::log(a * beta)) / beta <= delta; };
  if (is_met(peak)) return 0;
  double low = peak, high = peak;
  while (!is_met(high)) {
    low = high;
    high *= 2;
    if (std::isinf(high)) return kInfinity;
  }
  while (high - low > 1e-15 * high) {
    const auto middle = low + (high - low) / 2;
    if (middle <= low || middle >= high) break;
    (is_met(middle) ? high : low) = middle;
  }
  return high;
}

at::Tensor separating_betas(const PatternSeparation& separation) {
  const auto delta = separation.delta.cpu().contiguous();
  auto betas = at::empty_like(delta);
  for (int64_t i = 0; i < delta.numel(); ++i) {
    betas.data_ptr<double>()[i] =
        separating_beta(delta.data_ptr<double>()[i], separation.count(), separation.largest_norm);
  }
  return betas.to(separation.delta.device());
}

}  // namespace hopfield::theory
