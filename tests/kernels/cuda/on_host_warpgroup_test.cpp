// What the host runtime reports of wrong products of warpgroups and wrong copies of tiles.

#include "harness.h"

#include <gmock/gmock.h>
#include <kernels/cuda/tensor_copy.h>
#include <kernels/cuda/warpgroup_mma.h>

#include <cmath>

namespace hopfield::kernels::cuda {
namespace {

using ::testing::HasSubstr;

constexpr int kTile = 64 * kTileRowBytes;

std::string run(void (*kernel)()) { return launch(kernel, {{1, 1, 1}, kWarpgroup, 2 * kTile}, nullptr); }

/// A multiple of 1024 bytes with a tile behind it; all numbers are 1.
unsigned char* tile_of_ones() {
  auto* begin = shared_memory();
  begin += (kTileAlignment - shared_address(begin) % kTileAlignment) % kTileAlignment;
  for (int i = thread_index(); i < kTile / 2; i += block_size()) reinterpret_cast<uint16_t*>(begin)[i] = 0x3F80;
  fence_async_proxy();
  sync_threads();
  return begin;
}

struct Sums {
  float c[8][4] = {};
};

void start(Sums& sums, uint64_t operand) { multiply_async<TileView::columns>(sums.c, operand, operand, false); }

TEST(OnHostWarpgroup, ProductsAreThereWhenTheyHaveBeenWaitedFor) {
  EXPECT_EQ(run([] {
              Sums sums;
              const auto operand = tile_operand(tile_of_ones());
              fence_products();
              start(sums, operand);
              commit_products();
              check(std::isnan(sums.c[7][3]), "a product that is under way");
              wait_products<1>();
              check(std::isnan(sums.c[7][3]), "a group that was not waited for");
              wait_products<0>();
              check(sums.c[0][0] == 16.0f && sums.c[7][3] == 16.0f, "a sum of 16 products of ones");
            }),
            "");
}

TEST(OnHostWarpgroup, ProductsBehindNoFence) {
  EXPECT_THAT(run([] {
                Sums sums;
                start(sums, tile_operand(tile_of_ones()));
              }),
              HasSubstr("fence_products() has to come between"));
  EXPECT_THAT(run([] {
                Sums sums;
                const auto operand = tile_operand(tile_of_ones());
                fence_products();
                start(sums, operand);
                commit_products();
                wait_products<0>();
                start(sums, operand);
              }),
              HasSubstr("fence_products() has to come between"));
}

TEST(OnHostWarpgroup, RegistersWrittenWhileAProductIsUnderWay) {
  EXPECT_THAT(run([] {
                Sums sums;
                const auto operand = tile_operand(tile_of_ones());
                fence_products();
                start(sums, operand);
                commit_products();
                sums.c[3][1] = 0.0f;
                wait_products<0>();
              }),
              HasSubstr("registers of C were written"));
  EXPECT_THAT(run([] {
                Sums sums;
                uint32_t a[4] = {};
                const auto operand = tile_operand(tile_of_ones());
                fence_products();
                multiply_async<TileView::rows>(sums.c, a, operand, false);
                commit_products();
                a[2] = 1;
                wait_products<0>();
              }),
              HasSubstr("registers of A were written"));
}

TEST(OnHostWarpgroup, ProductsThatNobodyWaitsFor) {
  EXPECT_THAT(run([] {
                Sums sums;
                const auto operand = tile_operand(tile_of_ones());
                fence_products();
                start(sums, operand);
                commit_products();
              }),
              HasSubstr("the thread has ended while a product was under way"));
}

TEST(OnHostWarpgroup, OperandsThatAreNotThere) {
  EXPECT_THAT(run([] {
                Sums sums;
                const auto operand = operand_behind(tile_operand(tile_of_ones()), kTile);
                fence_products();
                start(sums, operand);
                commit_products();
                wait_products<0>();
              }),
              HasSubstr("an operand lies outside"));
}

TEST(OnHostWarpgroup, TilesAreCopiedToMultiplesOf1024Bytes) {
  EXPECT_THAT(run([] {
                static const TensorMap map{};
                copy_tile(shared_memory(), &map, 0, 0, 0, 0, shared_memory<MemoryBarrier>(kTile));
              }),
              HasSubstr("copied to a multiple of 1024 bytes"));
}

}  // namespace
}  // namespace hopfield::kernels::cuda
