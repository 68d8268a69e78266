#pragma once

#include <algorithm>
#include <cstdint>

namespace hopfield::theory {

/// Most numbers that are held at a time for a tile of rows.
constexpr int64_t kTileNumbers = int64_t{1} << 22;

/// Calls visit(first, count) for tiles of the rows, each of which takes that many numbers.
template <typename Visit>
void for_row_tiles(int64_t rows, int64_t numbers_of_row, const Visit& visit) {
  const auto step = std::max<int64_t>(1, kTileNumbers / std::max<int64_t>(1, numbers_of_row));
  for (int64_t first = 0; first < rows; first += step) visit(first, std::min(step, rows - first));
}

}  // namespace hopfield::theory
