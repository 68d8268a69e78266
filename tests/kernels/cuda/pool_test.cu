// The forward pass of pooling against the formula in float64.

#include "pool_case.h"

#include <kernels/cuda/pool_workspace.h>

namespace hopfield::kernels::cuda {
namespace {

void expect_near(const std::vector<float>& found, const std::vector<double>& reference, double tolerance,
                 const char* name) {
  ASSERT_EQ(found.size(), reference.size()) << name;
  double scale = 1;
  for (const auto value : reference) {
    if (std::isfinite(value)) scale = std::max(scale, std::abs(value));
  }
  for (size_t i = 0; i < found.size(); ++i) {
    if (std::isfinite(reference[i])) {
      ASSERT_NEAR(found[i], reference[i], tolerance * scale) << name << " " << i;
    } else {
      ASSERT_EQ(std::isnan(found[i]), std::isnan(reference[i])) << name << " " << i;
      if (!std::isnan(found[i])) {
        ASSERT_EQ(found[i], reference[i]) << name << " " << i;
      }
    }
  }
}

/// What results may be off by, as a part of the largest number. Queries and weights are sums of two bfloat16, each off
/// by 2^-16 and all of them in several associations, of two float16, off by 2^-22, or floats. In the latter two, the
/// sums that tensor cores cut off count for more; the device arithmetic of the host uses up to half of the bound.
/// Instances of 16 bits are multiplied before their mean is taken off, and so the errors of the products are those of
/// numbers of their size.
double tolerance_of(const Sample& s) {
  const bool floats = s.type == ElementType::float32;
  const double tolerance = s.type == ElementType::bfloat16 ? 2e-4 : s.type == ElementType::float16 ? 1e-4 : 3e-5;
  return tolerance + (floats ? 0 : s.shift * hopfield::testing::product_error(s.type, false, 2 * s.width));
}

void check(const Sample& s, const PlainCall& data, const PlainResult& reference) {
  const Device found(s, data);
  const double tolerance = tolerance_of(s);
  expect_near(found.output.download(), reference.output, tolerance, "output");
  expect_near(found.state.download(), reference.state, tolerance, "state");
  expect_near(found.mass.download(), reference.mass, tolerance, "mass");
  expect_near(found.logsumexp.download(), reference.logsumexp, tolerance, "logsumexp");
  expect_near(found.scores.download(), reference.scores, tolerance, "scores");
  expect_near(found.residual.download(), reference.residual, tolerance, "residual");
  EXPECT_EQ(found.steps.download(), reference.steps);
}

void check(Sample s, const PlainCall& data) {
  const PlainOracle oracle(data);
  const auto reference = oracle.forward();
  if (s.eps > 0) {
    EXPECT_TRUE(oracle.decides_clearly(tolerance_of(s)));
  }
  for (const bool plain : {false, true}) {
    if (plain && s.type != ElementType::float32) continue;
    for (const bool on_chip : {false, true}) {
      SCOPED_TRACE(std::string(plain ? "plain, " : "") + (on_chip ? "on chip" : "streamed"));
      s.plain_float32 = plain;
      s.on_chip = on_chip;
      check(s, data, reference);
    }
  }
}

void check(const Sample& s) { check(s, draw(s)); }

class CudaPool : public Cuda, public ::testing::WithParamInterface<ElementType> {};

TEST_P(CudaPool, RaggedBagsOfUglySizes) {
  Sample s;
  s.type = GetParam();
  s.bags = {1, 0, 5, 63, 64, 65, 130};
  check(s);
}

TEST_P(CudaPool, SeveralParts) {
  Sample s;
  s.type = GetParam();
  s.bags = {2 * kPoolPart + 100, 3, kPoolPart};
  s.queries = 1;
  s.steps = 1;
  check(s);
}

TEST_P(CudaPool, ClustersOfAllSizesAndBagsTooLargeForThem) {
  Sample s;
  s.type = GetParam();
  const int64_t rows = s.type == ElementType::float32 ? 32 : s.type == ElementType::bfloat16 ? 64 : 16;  // of a tile
  s.bags = {rows, rows + 1, 0, 3 * rows, 4 * rows + 1, 16 * rows, 8 * rows + 3, 16 * rows + 1, 1};
  s.queries = 2;
  check(s);
}

TEST_P(CudaPool, ExcludedInstancesMayBeAnything) {
  Sample s;
  s.type = GetParam();
  s.bags = {70, 1, 30};
  s.key_bias = true;
  check(s);
}

/// All scores of a bag are NaN once its states are, and the largest score of a part stays -inf then, as if it had no
/// instances.
TEST_P(CudaPool, AnInstanceThatIsNotFiniteShowsInItsBag) {
  Sample s;
  s.type = GetParam();
  s.bags = {40, 2 * kPoolPart + 9, 5};
  s.queries = 1;
  s.heads = 1;
  s.width = 16;
  s.steps = 1;
  auto data = draw(s);
  for (const size_t bag : {0, 1}) {
    data.stored[static_cast<size_t>(data.offsets[bag] + 3) * static_cast<size_t>(data.call.stored.row)] = std::nan("");
  }
  check(s, data);
}

TEST_P(CudaPool, WithoutNormAndBias) {
  Sample s;
  s.type = GetParam();
  s.bags = {100, 20};
  s.normalize = s.bias = false;
  check(s);
}

TEST_P(CudaPool, MoreRowsThanABlockTakes) {
  Sample s;
  s.type = GetParam();
  s.bags = {50, 9};
  s.heads = 5;
  s.queries = 7;
  s.steps = 1;
  check(s);
}

TEST_P(CudaPool, DropoutHasThePhiloxMask) {
  Sample s;
  s.type = GetParam();
  s.bags = {90, 33};
  s.dropout = 0.4f;
  check(s);
}

TEST_P(CudaPool, OneAssociation) {
  Sample s;
  s.type = GetParam();
  s.bags = {90, 33};
  s.steps = 0;
  check(s);
}

TEST_P(CudaPool, InstancesFarFromZero) {
  Sample s;
  s.type = GetParam();
  s.bags = {90};
  s.shift = 100.0f;
  check(s);
}

TEST_P(CudaPool, StopsEarly) {
  Sample s;
  s.type = GetParam();
  s.bags = {40, 90, 1};
  s.steps = 20;
  s.eps = 0.05f;
  s.beta = 0.1;
  check(s);
}

INSTANTIATE_TEST_SUITE_P(Types, CudaPool,
                         ::testing::Values(ElementType::float32, ElementType::bfloat16, ElementType::float16));

TEST_F(Cuda, PoolsWideInstances) {
  for (const auto type : {ElementType::bfloat16, ElementType::float16, ElementType::float32}) {
    for (const int64_t width : {7, 256, 257, 1024}) {
      Sample s;
      s.bags = {70, 3};
      s.width = width;
      s.type = type;
      check(s);
    }
  }
}

TEST_F(Cuda, PoolMergesGroupsOfParts) {
  Sample s;
  s.bags = {kPoolPart * (2 * kPoolGroup + 1) + 5};
  s.width = 8;
  s.depth = 4;
  s.heads = s.queries = 1;
  s.steps = 0;
  s.type = ElementType::bfloat16;
  check(s);
}

TEST_F(Cuda, PoolGivesABagTheSameBitsInAnyBatch) {
  for (const bool on_chip : {false, true}) {
    Sample batch;
    batch.bags = {70, 1300, 40, 500};
    batch.steps = 1;
    batch.on_chip = on_chip;
    const auto data = draw(batch);
    const auto together = Device(batch, data).output.download();
    const auto row = batch.heads * batch.queries * batch.width;
    int64_t first = 0;
    for (size_t bag = 0; bag < batch.bags.size(); ++bag) {
      auto alone = batch;
      alone.bags = {batch.bags[bag]};
      auto part = data;
      const auto begin = data.stored.begin() + first * data.call.stored.row;
      part.stored.assign(begin, begin + alone.bags[0] * data.call.stored.row);
      part.offsets = offsets_of(alone.bags);
      part.call.batch = 1;
      part.call.keys = alone.bags[0];
      const auto found = Device(alone, part).output.download();
      EXPECT_TRUE(std::equal(found.begin(), found.end(), together.begin() + static_cast<int64_t>(bag) * row)) << bag;
      first += batch.bags[bag];
    }
  }
}

}  // namespace
}  // namespace hopfield::kernels::cuda
