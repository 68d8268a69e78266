// Products of a warpgroup, and copies of tiles.

#include "../../support/cuda_on_host/numbers.h"  // conversions in plain C++
#include "warpgroup_case.h"

#include <kernels/cuda/products.h>
#include <kernels/cuda/tensor_copy.h>
#include <kernels/cuda/warpgroup_mma.h>

#include <cmath>

namespace hopfield::kernels::cuda {
namespace {

/// Small integers, so that all sums are exact.
std::vector<bfloat16_t> random_integers(size_t count, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<bfloat16_t> values(count);
  for (auto& value : values) value.bits = cuda_on_host::bfloat16_bits(static_cast<float>(random() % 7) - 3.0f);
  return values;
}

float number(bfloat16_t value) { return cuda_on_host::float_of_bfloat16(value.bits); }

/// Shared memory for tiles, from a multiple of 1024 bytes on.
constexpr size_t kRoomToAlign = kTileAlignment - 128;
HOPFIELD_DEVICE unsigned char* aligned_shared_memory() {
  auto* begin = shared_memory();
  return begin + (kTileAlignment - shared_address(begin) % kTileAlignment) % kTileAlignment;
}

/// Writes [rows, width] to tiles of 64 columns, one behind the other.
HOPFIELD_DEVICE void write_tiles(unsigned char* tiles, const bfloat16_t* values, int rows, int width) {
  for (int i = thread_index(); i < rows * width; i += block_size()) {
    const int row = i / width, column = i % width;
    auto* at = tiles + column / kTileColumns * rows * kTileRowBytes + row * kTileRowBytes +
               swizzled_piece(row, column % kTileColumns / 8) * 16;
    reinterpret_cast<bfloat16_t*>(at)[column % 8] = values[i];
  }
}

template <int eighths>
HOPFIELD_DEVICE void write_sums(float* out, const float (&c)[eighths][4]) {
  const int row = warp_index() * 16 + lane_index() / 4, column = lane_index() % 4 * 2;
  for (int i = 0; i < 4 * eighths; ++i) {
    out[(row + i % 4 / 2 * 8) * 8 * eighths + 8 * (i / 4) + column + i % 2] = c[i / 4][i % 4];
  }
}

/// C = A B^T for A [64, depth] and B [8 eighths, depth], both in shared memory.
template <int eighths, int depth>
HOPFIELD_KERNEL void multiply_with_columns(const bfloat16_t* a, const bfloat16_t* b, float* out) {
  auto* a_tiles = aligned_shared_memory();
  auto* b_tiles = a_tiles + 64 * depth * 2;
  write_tiles(a_tiles, a, 64, depth);
  write_tiles(b_tiles, b, 8 * eighths, depth);
  fence_async_proxy();
  sync_threads();
  float c[eighths][4];
  hold_registers(c);
  fence_products();
  const auto left = tile_operand(a_tiles), right = tile_operand(b_tiles);
  HOPFIELD_UNROLL
  for (int k = 0; k < depth / 16; ++k) {
    multiply_async<TileView::columns>(c, operand_behind(left, k / 4 * 64 * kTileRowBytes + k % 4 * 32),
                                      operand_behind(right, k / 4 * 8 * eighths * kTileRowBytes + k % 4 * 32), k > 0);
  }
  commit_products();
  wait_products<0>();
  hold_registers(c);
  write_sums(out, c);
}

/// C = 1 + A B for A [64, depth] in registers or in shared memory and B [depth, 8 eighths] in shared memory.
template <int eighths, int depth, bool in_registers>
HOPFIELD_KERNEL void multiply_with_rows(const bfloat16_t* a, const bfloat16_t* b, float* out) {
  auto* a_tiles = aligned_shared_memory();
  auto* b_tiles = a_tiles + 64 * depth * 2;
  write_tiles(a_tiles, a, 64, depth);
  write_tiles(b_tiles, b, depth, 8 * eighths);
  fence_async_proxy();
  sync_threads();
  uint32_t registers[depth / 16][4];
  const int row = warp_index() * 16 + lane_index() / 4, column = lane_index() % 4 * 2;
  for (int i = 0; i < depth / 4; ++i) {
    registers[i / 4][i % 4] = load_word(a + (row + i % 2 * 8) * depth + i / 4 * 16 + i % 4 / 2 * 8 + column);
  }
  float c[eighths][4];
  for (auto& sums : c) sums[0] = sums[1] = sums[2] = sums[3] = 1.0f;
  hold_registers(registers);
  hold_registers(c);
  fence_products();
  const auto left = tile_operand(a_tiles), right = tile_operand(b_tiles, depth * kTileRowBytes);
  HOPFIELD_UNROLL
  for (int k = 0; k < depth / 16; ++k) {
    const auto rows = operand_behind(right, k * 16 * kTileRowBytes);
    if constexpr (in_registers) {
      multiply_async<TileView::rows>(c, registers[k], rows, true);
    } else {
      multiply_async<TileView::rows>(c, operand_behind(left, k / 4 * 64 * kTileRowBytes + k % 4 * 32), rows, true);
    }
  }
  commit_products();
  wait_products<0>();
  hold_registers(registers);
  hold_registers(c);
  write_sums(out, c);
}

using Multiply = void (*)(const bfloat16_t*, const bfloat16_t*, float*);

void check_product(Multiply kernel, int columns, int depth, bool transposed) {
  const auto a = random_integers(static_cast<size_t>(64 * depth), 1),
             b = random_integers(static_cast<size_t>(columns * depth), 2);
  const DeviceArray<bfloat16_t> a_device(a), b_device(b);
  const DeviceArray<float> out(static_cast<size_t>(64 * columns), NAN);
  const auto shared = static_cast<size_t>((64 + columns) * depth * 2) + kRoomToAlign;
  ASSERT_EQ(launch(kernel, {{1, 1, 1}, kWarpgroup, shared}, nullptr, a_device.data(), b_device.data(), out.data()), "");
  const auto found = out.download();
  for (int row = 0; row < 64; ++row) {
    for (int column = 0; column < columns; ++column) {
      float sum = transposed ? 0.0f : 1.0f;
      for (int k = 0; k < depth; ++k) {
        const auto at = static_cast<size_t>(transposed ? column * depth + k : k * columns + column);
        sum += number(a[static_cast<size_t>(row * depth + k)]) * number(b[at]);
      }
      ASSERT_EQ(found[static_cast<size_t>(row * columns + column)], sum) << row << ", " << column;
    }
  }
}

TEST_F(CudaWarpgroup, ProductsWithATilesRowsAsColumns) {
  check_product(multiply_with_columns<8, 64>, 64, 64, true);
  check_product(multiply_with_columns<16, 64>, 128, 64, true);
  check_product(multiply_with_columns<16, 128>, 128, 128, true);
}

TEST_F(CudaWarpgroup, ProductsWithATilesRows) {
  check_product(multiply_with_rows<8, 64, false>, 64, 64, false);
  check_product(multiply_with_rows<16, 128, false>, 128, 128, false);
}

TEST_F(CudaWarpgroup, ProductsOfRegisters) {
  check_product(multiply_with_rows<8, 64, true>, 64, 64, false);
  check_product(multiply_with_rows<16, 64, true>, 128, 64, false);
  check_product(multiply_with_rows<16, 128, true>, 128, 128, false);
}

/// Scores S = X K^T and update Z = S K from the same stored patterns in shared memory. The products of one tile are
/// under way together with those of another. S fits bfloat16.
HOPFIELD_KERNEL void score_and_update_twice(const bfloat16_t* x, const bfloat16_t* stored, float* out) {
  auto* x_tile = aligned_shared_memory();
  auto* tiles = x_tile + 64 * kTileRowBytes;
  write_tiles(x_tile, x, 64, 64);
  for (int i = 0; i < 2; ++i) write_tiles(tiles + i * 64 * kTileRowBytes, stored + i * 64 * 64, 64, 64);
  fence_async_proxy();
  sync_threads();
  float scores[8][4], sums[8][4];
  uint32_t weights[4][4];
  const auto a = tile_operand(x_tile);
  const auto start_scores = [&](int tile) {
    const auto b = tile_operand(tiles + tile * 64 * kTileRowBytes);
    HOPFIELD_UNROLL
    for (int k = 0; k < 4; ++k) {
      multiply_async<TileView::columns>(scores, operand_behind(a, k * 32), operand_behind(b, k * 32), k > 0);
    }
    commit_products();
  };
  const auto start_sums = [&](int tile) {
    const auto b = tile_operand(tiles + tile * 64 * kTileRowBytes);
    HOPFIELD_UNROLL
    for (int k = 0; k < 4; ++k) {
      multiply_async<TileView::rows>(sums, weights[k], operand_behind(b, k * 16 * kTileRowBytes), tile > 0 || k > 0);
    }
    commit_products();
  };
  const auto pack = [&] {
    HOPFIELD_UNROLL
    for (int i = 0; i < 16; ++i) {
      const auto& columns = scores[i / 4 * 2 + i % 4 / 2];
      weights[i / 4][i % 4] = pack_pair<bfloat16_t>(columns[i % 2 * 2], columns[i % 2 * 2 + 1]);
    }
  };
  hold_registers(scores);
  fence_products();
  start_scores(0);
  wait_products<0>();
  hold_registers(scores);
  pack();
  hold_registers(scores);
  hold_registers(weights);
  hold_registers(sums);
  fence_products();
  start_scores(1);
  start_sums(0);
  wait_products<1>();
  hold_registers(scores);
  HOPFIELD_UNROLL
  for (int i = 0; i < 32; ++i) scores[i / 4][i % 4] *= 2.0f;  // while the sums are under way
  wait_products<0>();
  hold_registers(weights);
  hold_registers(sums);
  pack();
  hold_registers(weights);
  fence_products();
  start_sums(1);
  wait_products<0>();
  hold_registers(sums);
  write_sums(out, sums);
}

TEST_F(CudaWarpgroup, OneTileServesBothProducts) {
  const auto x = random_integers(64 * 64, 3), stored = random_integers(2 * 64 * 64, 4);
  const DeviceArray<bfloat16_t> x_device(x), stored_device(stored);
  const DeviceArray<float> out(64 * 64, NAN);
  const size_t shared = 3 * 64 * kTileRowBytes + kRoomToAlign;
  ASSERT_EQ(launch(score_and_update_twice, {{1, 1, 1}, kWarpgroup, shared}, nullptr, x_device.data(),
                   stored_device.data(), out.data()),
            "");
  const auto found = out.download();
  for (size_t row = 0; row < 64; ++row) {
    std::vector<float> sums(64, 0.0f);
    for (size_t key = 0; key < 128; ++key) {
      float score = 0;
      for (size_t k = 0; k < 64; ++k) score += number(x[64 * row + k]) * number(stored[64 * key + k]);
      ASSERT_LE(std::abs(score), 256.0f) << "bfloat16 has to hold a score";
      for (size_t k = 0; k < 64; ++k) sums[k] += (key < 64 ? 1.0f : 2.0f) * score * number(stored[64 * key + k]);
    }
    for (size_t k = 0; k < 64; ++k) ASSERT_EQ(found[64 * row + k], sums[k]) << row << ", " << k;
  }
}

/// Copies tiles of 16 rows and 64 columns, one in each round, and writes them to global memory row by row.
HOPFIELD_KERNEL void copy_tiles(const HOPFIELD_GRID_CONSTANT TensorMap map, const int* places, bfloat16_t* out,
                                int tiles) {
  auto* tile = aligned_shared_memory();
  auto* barrier = reinterpret_cast<MemoryBarrier*>(tile + 16 * kTileRowBytes);
  if (thread_index() == 0) {
    init_memory_barrier(barrier, 1);
    fence_memory_barriers();
    prefetch_tensor_map(&map);
  }
  sync_threads();
  for (int i = 0; i < tiles; ++i) {
    if (thread_index() == 0) {
      arrive_expecting(barrier, 16 * kTileRowBytes);
      const int* at = places + 4 * i;
      copy_tile(tile, &map, at[0], at[1], at[2], at[3], barrier);
    }
    wait(barrier, i % 2);
    for (int k = thread_index(); k < 16 * 64; k += block_size()) {
      const int row = k / 64, column = k % 64;
      const auto* piece = tile + row * kTileRowBytes + swizzled_piece(row, column / 8) * 16;
      out[16 * 64 * i + k] = reinterpret_cast<const bfloat16_t*>(piece)[column % 8];
    }
    sync_threads();
  }
}

TEST_F(CudaWarpgroup, CopiesOfTilesHaveZerosOutside) {
  // [2, 3, 20, 72] with rows of 80 numbers, where the rows of the heads are neighbours.
  constexpr int kBatch = 2, kHeads = 3, kRows = 20, kColumns = 72, kPitch = 80;
  const auto values = random_integers(kBatch * kRows * kHeads * kPitch, 5);
  const DeviceArray<bfloat16_t> in(values);
  TensorMap map{};
  TiledTensor tensor;
  tensor.data = in.data();
  tensor.columns = kColumns, tensor.rows = kRows, tensor.outer = kHeads, tensor.outermost = kBatch;
  tensor.row_bytes = 2 * kHeads * kPitch, tensor.outer_bytes = 2 * kPitch;
  tensor.outermost_bytes = 2 * kRows * kHeads * kPitch;
  tensor.tile_rows = 16;
  ASSERT_EQ(encode_tensor_map(map, tensor), "");
  const std::vector<int> places{0, 0, 0, 0, 64, 0, 2, 1, 0, 16, 1, 1, 64, 16, 2, 0, 128, 0, 0, 0};
  const auto tiles = places.size() / 4;
  const DeviceArray<int> places_device(places);
  const DeviceArray<bfloat16_t> out(tiles * 16 * 64, bfloat16_t{0x7FFF});
  const size_t shared = 16 * kTileRowBytes + sizeof(MemoryBarrier) + kRoomToAlign;
  ASSERT_EQ(launch(copy_tiles, {{1, 1, 1}, 64, shared}, nullptr, map, places_device.data(), out.data(),
                   static_cast<int>(tiles)),
            "");
  const auto found = out.download();
  for (size_t i = 0; i < found.size(); ++i) {
    const int* at = places.data() + i / (16 * 64) * 4;
    const int column = at[0] + static_cast<int>(i % 64), row = at[1] + static_cast<int>(i / 64 % 16);
    float expected = 0.0f;
    if (column < kColumns && row < kRows) {
      expected = number(values[static_cast<size_t>(((at[3] * kRows + row) * kHeads + at[2]) * kPitch + column)]);
    }
    ASSERT_EQ(number(found[i]), expected) << i;
  }
}

TEST_F(CudaWarpgroup, TensorsThatCannotBeCopiedAreRefused) {
  const DeviceArray<bfloat16_t> in(64 * 64, bfloat16_t{0});
  TiledTensor tensor;
  tensor.data = in.data();
  tensor.columns = 64, tensor.rows = 64;
  tensor.row_bytes = 120, tensor.outer_bytes = tensor.outermost_bytes = 64 * 128;
  tensor.tile_rows = 64;
  TensorMap map{};
  EXPECT_NE(encode_tensor_map(map, tensor), "");
  tensor.row_bytes = 128;
  EXPECT_EQ(encode_tensor_map(map, tensor), "");
  tensor.tile_rows = 257;
  EXPECT_NE(encode_tensor_map(map, tensor), "");
}

}  // namespace
}  // namespace hopfield::kernels::cuda
