// Retrieval's backward against the derivative of the formula in float64.

#include "retrieve_backward_case.h"

namespace hopfield::kernels::cuda {
namespace {

void check(const Retrieval& r, int64_t last = kAllSteps, bool output_alone = false) {
  check_backward(
      r, [](const RetrievalOnDevice& device) { device.forward(); }, last, output_alone);
}

class CudaRetrieveBackward : public CudaOfTypes {};

TEST_P(CudaRetrieveBackward, SelfAssociation) {
  auto r = sample();
  r.queries = 70;
  check(r);
  r.width = 20;
  check(r);
  r.width = 0;
  r.keys = 150;  // more than one tile of patterns
  check(r, kAllSteps, true);
}

TEST_P(CudaRetrieveBackward, OneAssociation) {
  auto r = sample();
  r.steps = 0;
  r.width = 5;
  check(r);
}

TEST_P(CudaRetrieveBackward, PatternsSharedByBatchAndHeads) {
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

TEST_P(CudaRetrieveBackward, Masks) {
  for (const auto kind : {ScoreMask::Kind::boolean, ScoreMask::Kind::float32}) {
    auto r = sample();
    r.mask = kind;
    r.shared_batch = kind == ScoreMask::Kind::boolean;
    check(r);
  }
}

TEST_P(CudaRetrieveBackward, ExcludedKeysMayBeAnything) {
  auto r = sample();
  r.key_bias = true;
  r.width = 9;
  check(r);
}

TEST_P(CudaRetrieveBackward, RaggedPatterns) {
  auto r = sample();
  r.batch = 5;
  r.bags = {3, 0, 150, 33, 1};
  r.width = 6;
  check(r);
  r.shared_heads = r.key_bias = true;
  check(r);
}

TEST_P(CudaRetrieveBackward, Dropout) {
  auto r = sample();
  r.dropout = 0.4f;
  check(r);
  r.width = 7;
  check(r);
}

TEST_P(CudaRetrieveBackward, StepsThatWereMade) {
  auto r = sample();
  r.queries = 40;
  r.steps = 8;
  r.eps = 0.3f;
  r.beta = 0.2;
  check(r);
}

TEST_P(CudaRetrieveBackward, StepsOfWholeHeads) {
  auto r = sample();
  r.heads = 3;
  r.queries = 40;
  r.steps = 6;
  r.compares_heads = true;
  r.eps_of_heads = {3e-3f, 0.0f, 0.1f};
  r.steps_of_heads = {6, 2, 6};
  r.beta = 0.2;
  r.width = 5;
  r.dropout = 0.2f;
  r.mask = ScoreMask::Kind::boolean;
  check(r);
  check(r, 2);
}

TEST_P(CudaRetrieveBackward, TheLastSteps) {
  auto r = sample();
  r.steps = 3;
  for (const int64_t last : {1, 2, 3, 4}) check(r, last);
}

TEST_P(CudaRetrieveBackward, PartsOfManyQueries) {
  auto r = sample();
  r.batch = 1;
  r.heads = 1;
  r.queries = 9000;
  r.keys = 17;
  r.steps = 1;
  check(r);
}

TEST_P(CudaRetrieveBackward, WidthsUpToTheMost) {
  for (const int64_t depth : {1, 17, 64, 65, 128, 256}) {
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

TEST_P(CudaRetrieveBackward, FewerWarpsWhereMemoryIsSmall) {
  auto r = sample();
  r.queries = 70;
  r.width = 5;
  const auto patterns = draw(r);
  const Weights w{random_weights(r.rows() * r.value_width(), 11, r.type), {}, {}};
  const auto run = [&](size_t bytes) {
    RetrievalOnDevice device(r, patterns);
    device.call.most_shared_bytes = bytes;
    EXPECT_EQ(retrieve_backward_reason_against(device.call), "");
    device.forward();
    return run_backward(device, r, w, kAllSteps);
  };
  const size_t kilobytes = r.type == ElementType::bfloat16 ? 42 : r.type == ElementType::float16 ? 108 : 140;
  const auto found = run(kilobytes << 10), all = run(1 << 20);
  EXPECT_EQ(found.query, all.query);
  EXPECT_EQ(found.stored, all.stored);
  EXPECT_EQ(found.values, all.values);
  EXPECT_EQ(found.beta, all.beta);
  RetrievalOnDevice device(r, patterns);
  device.call.most_shared_bytes = 20 << 10;
  EXPECT_NE(retrieve_backward_reason_against(device.call).find("of which a block of this GPU has 20480"),
            std::string::npos);
}

INSTANTIATE_TEST_SUITE_P(Types, CudaRetrieveBackward, all_types());

}  // namespace
}  // namespace hopfield::kernels::cuda
