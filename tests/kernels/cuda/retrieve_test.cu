// The forward pass of retrieval against the formula in float64.

#include "retrieve_cases.h"
#include "retrieve_forward_case.h"

namespace hopfield::kernels::cuda {
namespace {

/// Limits of the device for the forward pass. By default patterns are streamed.
struct Use {
  int64_t multiprocessors = 0;
  size_t shared_bytes = std::numeric_limits<size_t>::max();

  void allow(RetrieveCall& call) const {
    call.most_multiprocessors = multiprocessors;
    call.most_shared_bytes = shared_bytes;
  }
};

PlainResult run(const Retrieval& r, const PlainCall& p, const Use& use = {}) {
  RetrievalOnDevice device(r, p);
  use.allow(device.call);
  device.forward();
  return results(r, device);
}

void check(const Retrieval& r) {
  check_forward(r, [](const RetrievalOnDevice& device) { device.forward(); });
}

void expect_same_bits(const PlainResult& found, const PlainResult& reference) {
  EXPECT_EQ(found.steps, reference.steps);
  for (const auto numbers : {&PlainResult::output, &PlainResult::state, &PlainResult::logsumexp, &PlainResult::residual,
                             &PlainResult::scores, &PlainResult::saved_states, &PlainResult::largest_scores,
                             &PlainResult::exponential_sums}) {
    const auto &a = found.*numbers, &b = reference.*numbers;
    ASSERT_EQ(a.size(), b.size());
    EXPECT_TRUE(a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(double)) == 0);
  }
}

bool keeps_patterns(const Retrieval& r, const Use& use) {
  RetrievalOnDevice device(r, draw(r));
  use.allow(device.call);
  return retrieve_keeps_patterns(device.call);
}

/// Two sets of queries, so many that several blocks share each set and one block has queries of both.
Retrieval many_queries(Retrieval r) {
  r.shared_batch = true;
  r.batch = 5;
  r.queries = 203;
  return r;
}

void check_resident(const Retrieval& r) {
  const auto patterns = draw(r);
  const auto streamed = run(r, patterns);
  ASSERT_FALSE(keeps_patterns(r, {}));
  for (const int64_t multiprocessors : {1, 3}) {
    ASSERT_TRUE(keeps_patterns(r, {multiprocessors}));
    expect_same_bits(run(r, patterns, {multiprocessors}), streamed);
  }
}

class CudaRetrieve : public CudaOfTypes {};

TEST_P(CudaRetrieve, FollowsTheFormula) { for_retrieve_cases(sample(), check); }

TEST_P(CudaRetrieve, StopsEarly) {
  auto r = sample();
  r.steps = 20;
  r.eps = 0.05f;
  r.beta = 0.1;
  check(r);
  r.width = 7;  // the tiles of the read-out are not those of the update that was expected
  check(r);
}

TEST_P(CudaRetrieve, KeepsPatternsThatManyQueriesShare) {
  auto r = many_queries(sample());
  check_resident(r);
  r.keys = 61;  // with values, two tiles of float32 patterns fit
  r.depth = 17;
  r.width = 33;
  r.key_bias = true;
  check_resident(r);
}

TEST_P(CudaRetrieve, KeepsPatternsBesideMasks) {
  auto r = many_queries(sample());
  r.keys = 33;
  r.mask = ScoreMask::Kind::float32;
  r.dropout = 0.4f;
  check_resident(r);
  r.mask = ScoreMask::Kind::boolean;
  r.mask_of_head = false;
  r.width = 5;
  check_resident(r);
}

TEST_P(CudaRetrieve, KeepsPatternsWhileWarpsStopEarly) {
  auto r = many_queries(sample());
  r.steps = 20;
  r.eps = 0.05f;
  r.beta = 0.1;
  r.keys = 61;
  r.width = 7;
  check_resident(r);
}

TEST_P(CudaRetrieve, KeepsPatternsOfOneSetForEachBlock) {
  auto r = sample();
  r.queries = 250;
  r.steps = 8;
  const auto patterns = draw(r);
  ASSERT_TRUE(keeps_patterns(r, {4}));
  expect_same_bits(run(r, patterns, {4}), run(r, patterns));
}

TEST_P(CudaRetrieve, StreamsWithFewerWarpsWhereMemoryIsSmall) {
  auto r = sample();
  r.queries = 70;
  r.eps = 0.01f;
  const auto patterns = draw(r);
  const Use small{0, r.type == ElementType::bfloat16 ? size_t{60} << 10 : size_t{99} << 10};
  expect_same_bits(run(r, patterns, small), run(r, patterns));
  RetrievalOnDevice device(r, patterns);
  small.allow(device.call);
  EXPECT_EQ(retrieve_reason_against(device.call), "");
  device.call.most_shared_bytes = 40 << 10;
  EXPECT_NE(retrieve_reason_against(device.call).find("of which a block of this GPU has 40960"), std::string::npos);
}

INSTANTIATE_TEST_SUITE_P(Types, CudaRetrieve, all_types());

TEST_F(Cuda, RetrieveKeepsPatternsWhereThatPays) {
  auto r = many_queries({});
  r.type = ElementType::bfloat16;
  r.steps = 3;
  EXPECT_TRUE(keeps_patterns(r, {3}));
  const auto but = [&](const auto& change) {
    auto other = r;
    change(other);
    return keeps_patterns(other, {3});
  };
  EXPECT_FALSE(keeps_patterns(r, {3, size_t{50} << 10})) << "little memory";
  EXPECT_FALSE(keeps_patterns(r, {5})) << "eight tiles: three blocks would have two of them, two blocks one";
  EXPECT_FALSE(keeps_patterns(r, {20})) << "not a tile for each";
  EXPECT_FALSE(but([](auto& other) { other.steps = 0; })) << "few associations for a load";
  EXPECT_FALSE(but([](auto& other) { other.queries = 160; })) << "800 queries of a set fill no more than 3 tiles";
  EXPECT_FALSE(but([](auto& other) { other.keys = 0; }));
  EXPECT_FALSE(but([](auto& other) {
    other.shared_batch = false;
    other.bags = {70, 70, 70};
  })) << "of bags the host does not know the sizes";
  EXPECT_TRUE(but([](auto& other) { other.keys = 1200; }));
  EXPECT_FALSE(but([](auto& other) { other.keys = 1300; }));
  EXPECT_FALSE(but([](auto& other) {
    other.keys = 1200;
    other.width = 8;
  })) << "values need as much again";
}

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
  part.call.batch = 1;
  const auto begin = patterns.state.begin() + 5 * patterns.call.state.batch;
  part.state.assign(begin, begin + patterns.call.state.batch);
  const RetrievalOnDevice apart(alone, part);
  apart.forward();
  const auto found = results(alone, apart).output, of_all = results(r, together).output;
  EXPECT_TRUE(std::equal(found.begin(), found.end(), of_all.begin() + 5 * r.heads * r.queries * r.depth));
}

}  // namespace
}  // namespace hopfield::kernels::cuda
