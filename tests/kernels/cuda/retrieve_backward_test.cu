// The backward pass of retrieval against the derivative of the formula in float64.

#include "retrieve_backward_case.h"
#include "retrieve_cases.h"

namespace hopfield::kernels::cuda {
namespace {

void check(const Retrieval& r, int64_t last = kAllSteps, bool output_alone = false) {
  check_backward(
      r, [](const RetrievalOnDevice& device) { device.forward(); }, last, output_alone);
}

class CudaRetrieveBackward : public CudaOfTypes {};

TEST_P(CudaRetrieveBackward, IsTheDerivativeOfTheFormula) {
  for_retrieve_cases(sample(), [](const Retrieval& r) { check(r); });
}

TEST_P(CudaRetrieveBackward, OutputAloneHasAGradient) {
  auto r = sample();
  r.queries = 70;
  r.keys = 150;
  check(r, kAllSteps, true);
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
  r.per_head = true;
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

TEST_P(CudaRetrieveBackward, FewerWarpsWhereMemoryIsSmall) {
  auto r = sample();
  r.queries = 70;
  r.width = 5;
  const auto patterns = draw(r);
  const PlainLoss loss{random_numbers(r.rows() * r.value_width(), 11, r.type), {}, {}};
  const auto run = [&](size_t bytes) {
    RetrievalOnDevice device(r, patterns);
    device.call.most_shared_bytes = bytes;
    EXPECT_EQ(retrieve_backward_reason_against(device.call), "");
    device.forward();
    return run_backward(device, r, loss, kAllSteps);
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
