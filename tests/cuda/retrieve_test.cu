// Attention-like retrieval against the formula in float64.

#include "retrieve_forward_case.h"

namespace hopfield::kernels::cuda {
namespace {

void check(const Retrieval& r) {
  check_forward(r, [](const RetrievalOnDevice& device) { device.forward(); });
}

/// Type, and whether float32 does without tensor cores.
class CudaRetrieve : public Cuda, public ::testing::WithParamInterface<std::pair<ElementType, bool>> {
 protected:
  static Retrieval sample() {
    Retrieval r;
    std::tie(r.type, r.plain) = GetParam();
    return r;
  }
};

TEST_P(CudaRetrieve, SelfAssociation) {
  auto r = sample();
  r.queries = 70;
  check(r);
  r.width = 20;
  check(r);
}

TEST_P(CudaRetrieve, OneAssociation) {
  auto r = sample();
  r.steps = 0;
  r.width = 5;
  check(r);
}

TEST_P(CudaRetrieve, PatternsSharedByBatchAndHeads) {
  for (const bool heads : {false, true}) {
    auto r = sample();
    r.batch = 3;
    r.queries = 13;
    r.width = 12;
    r.shared_batch = true;
    r.shared_heads = heads;
    check(r);
    r.shared_batch = false;
    check(r);
  }
}

TEST_P(CudaRetrieve, Masks) {
  for (const auto kind : {ScoreMask::Kind::boolean, ScoreMask::Kind::float32}) {
    for (const bool of_head : {true, false}) {
      auto r = sample();
      r.mask = kind;
      r.mask_of_head = of_head;
      r.shared_batch = of_head;
      check(r);
    }
  }
}

TEST_P(CudaRetrieve, ExcludedKeysMayBeAnything) {
  auto r = sample();
  r.key_bias = true;
  r.width = 9;
  check(r);
  r.shared_batch = true;
  check(r);
}

TEST_P(CudaRetrieve, RaggedPatterns) {
  auto r = sample();
  r.batch = 4;
  r.bags = {3, 0, 70, 33};
  r.width = 6;
  check(r);
  r.shared_heads = r.key_bias = true;
  check(r);
}

TEST_P(CudaRetrieve, DropoutHasThePhiloxMask) {
  auto r = sample();
  r.dropout = 0.4f;
  check(r);
}

TEST_P(CudaRetrieve, StopsEarly) {
  auto r = sample();
  r.steps = 20;
  r.eps = 0.05f;
  r.beta = 0.1;
  check(r);
  r.width = 7;  // the read-out has other tiles than the update that was expected
  check(r);
}

TEST_P(CudaRetrieve, WidthsUpToTheMost) {
  for (const int64_t depth : {1, 17, 100, 256}) {
    auto r = sample();
    r.batch = 1;
    r.heads = 1;
    r.depth = depth;
    r.width = depth == 17 ? 129 : 0;
    r.steps = 1;
    r.beta = 1 / std::sqrt(static_cast<double>(depth));
    check(r);
  }
}

INSTANTIATE_TEST_SUITE_P(Types, CudaRetrieve,
                         ::testing::Values(std::pair{ElementType::float32, false},
                                           std::pair{ElementType::float32, true},
                                           std::pair{ElementType::bfloat16, false},
                                           std::pair{ElementType::float16, false}));

TEST_F(Cuda, RetrieveGivesAQueryTheSameBitsInAnyBatch) {
  Retrieval r;
  r.type = ElementType::bfloat16;
  r.shared_batch = true;
  r.batch = 7;
  r.queries = 11;
  const auto patterns = draw(r);
  const RetrievalOnDevice together(r, patterns);
  together.forward();
  auto alone = r;
  alone.batch = 1;
  auto part = patterns;
  const auto state = r.heads * r.queries * r.depth;
  part.state.assign(patterns.state.begin() + 5 * state, patterns.state.begin() + 6 * state);
  const RetrievalOnDevice apart(alone, part);
  apart.forward();
  const auto found = results(alone, apart).output, of_all = results(r, together).output;
  EXPECT_TRUE(std::equal(found.begin(), found.end(), of_all.begin() + 5 * state));
}

}  // namespace
}  // namespace hopfield::kernels::cuda
