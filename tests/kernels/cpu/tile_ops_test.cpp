#include <gtest/gtest.h>
#include <kernels/cpu/tile_ops.h>

#include <cmath>
#include <vector>

namespace hopfield::kernels {
namespace {

/// Rows of scratch memory have room behind the last key, where anything may lie.
TEST(TileOps, TheChangeOfAnAssociationIgnoresWhatLiesBehindTheLastKey) {
  constexpr int64_t kRow = kPadding, kKeys = 3;
  const auto sums_with = [](float behind) {
    std::vector<float> scores(kRow, behind), change(kRow, behind), key_bias(kRow, behind), sums(4, 0.0f);
    for (int64_t j = 0; j < kKeys; ++j) {
      scores[j] = 0.3f * static_cast<float>(j);
      change[j] = 0.1f * static_cast<float>(j * j);
      key_bias[j] = 0.2f;
    }
    const float before = 1.1f, expected = 0.15f;
    const ScoreTile tile{scores.data(), kRow, 1, kKeys, key_bias.data(), nullptr, 0};
    tile_ops().association_change(tile, change.data(), &before, &expected, sums.data(), 1);
    return sums;
  };
  const auto clean = sums_with(0.0f);
  for (const float sum : clean) EXPECT_TRUE(std::isfinite(sum) && sum != 0.0f);
  for (const float behind : {NAN, INFINITY, -INFINITY, 3e38f}) EXPECT_EQ(sums_with(behind), clean) << behind;
}

TEST(TileOps, NameTheirInstructionSet) { EXPECT_NE(tile_ops().target, nullptr); }

}  // namespace
}  // namespace hopfield::kernels
