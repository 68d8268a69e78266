#include "io/files.h"
#include "memory/patterns.h"
#include "support/errors.h"
#include "support/naive.h"
#include <hopfield/memory/binary.h>
#include <hopfield/memory/exponential.h>
#include <hopfield/memory/polynomial.h>

#include <ATen/Parallel.h>
#include <torch/types.h>

#include <gtest/gtest.h>

#include <limits>

namespace hopfield::memory {
namespace {

using namespace memory_test;
using hopfield::testing::bitwise_equal;
using hopfield::testing::error_of;
using hopfield::testing::expect_error;
using hopfield::testing::randn;
using hopfield::testing::WrongCall;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

double share(const at::Tensor& rows) { return rows.to(at::kDouble).mean().item<double>(); }

/// What holds for all memories of two-valued neurons.
struct Kind {
  const char* name;
  std::function<std::unique_ptr<Memory>()> make;
  int64_t patterns_of_256_neurons;  // a number that it stores well
};

void PrintTo(const Kind& kind, std::ostream* stream) { *stream << kind.name; }

std::unique_ptr<Memory> network(LearningRule rule) {
  return std::make_unique<BinaryNetwork>(BinaryOptions().rule(rule));
}
std::unique_ptr<Memory> polynomial(int64_t degree, bool rectified) {
  return std::make_unique<PolynomialMemory>(PolynomialOptions().degree(degree).rectified(rectified));
}

const Kind kKinds[] = {
    {"hebb", [] { return network(LearningRule::hebb); }, 20},
    {"storkey", [] { return network(LearningRule::storkey); }, 40},
    {"pseudo_inverse", [] { return network(LearningRule::pseudo_inverse); }, 64},
    {"polynomial3", [] { return polynomial(3, false); }, 200},
    {"polynomial4rectified", [] { return polynomial(4, true); }, 400},
    {"exponential", [] { return std::make_unique<ExponentialMemory>(); }, 400},
};

class TwoValued : public ::testing::TestWithParam<Kind> {
 protected:
  std::unique_ptr<Memory> with(const at::Tensor& patterns) const {
    auto memory = GetParam().make();
    memory->store(patterns);
    return memory;
  }
};

INSTANTIATE_TEST_SUITE_P(Memory, TwoValued, ::testing::ValuesIn(kKinds),
                         [](const auto& test) { return std::string(test.param.name); });

constexpr at::Tensor Recall::*kMembers[] = {&Recall::state,  &Recall::output,    &Recall::energy,
                                            &Recall::steps,  &Recall::converged, &Recall::residual,
                                            &Recall::period, &Recall::matched,   &Recall::match};

void expect_equal(const Recall& a, const Recall& b) {
  for (const auto member : kMembers) EXPECT_TRUE(bitwise_equal(a.*member, b.*member)) << a.*member << b.*member;
}

Recall rows_of(const Recall& recall, const at::Tensor& rows) {
  Recall result;
  for (const auto member : kMembers) result.*member = (recall.*member).index_select(0, rows);
  return result;
}

/// Both ways of updating, with and without noise.
std::vector<RecallOptions> ways(uint64_t seed) {
  std::vector<RecallOptions> result;
  for (const auto update : {Update::asynchronous, Update::synchronous}) {
    result.push_back(RecallOptions().update(update).seed(seed));
    result.push_back(RecallOptions().update(update).seed(seed).update_steps_max(3).temperature(0.6));
  }
  return result;
}

TEST_P(TwoValued, ResultsDoNotDependOnTheBatchOrOnThreads) {
  for (const auto type : {at::kFloat, at::kDouble}) {
    const auto memory = with(signs(30, 100, 1, type));
    const auto queries = at::cat({signs(30, 100, 2, type), flipped(memory->patterns(), 0.15, 3)});
    for (const auto& options : ways(5)) {
      const auto all = memory->retrieve(queries, options);
      const auto rows = torch::tensor({59, 3, 31, 3});
      expect_equal(memory->retrieve(queries.index_select(0, rows), options), rows_of(all, rows));
      const auto alone = memory->retrieve(queries.narrow(0, 40, 1), options);
      expect_equal(alone, rows_of(all, torch::tensor({40})));
      const auto single = memory->retrieve(queries[40], options);
      EXPECT_TRUE(bitwise_equal(single.state, all.state[40]));
      EXPECT_EQ(single.steps.dim(), 0);
      expect_equal(memory->retrieve(queries.t().contiguous().t(), options), all);
      at::set_num_threads(3);
      expect_equal(memory->retrieve(queries, options), all);
      at::set_num_threads(1);
      EXPECT_EQ(memory->retrieve(queries.narrow(0, 0, 0), options).state.size(0), 0);
    }
    const auto energies = memory->energy(queries);
    EXPECT_TRUE(bitwise_equal(memory->energy(queries[7]), energies[7]));
  }
}

TEST_P(TwoValued, SeedsDecideOrderAndNoise) {
  const auto memory = with(signs(30, 100, 1));
  const auto queries = signs(50, 100, 2);
  for (size_t way = 0; way < 4; ++way) {
    const auto first = memory->retrieve(queries, ways(1)[way]);
    expect_equal(first, memory->retrieve(queries, ways(1)[way]));
    const bool is_deterministic = way == 2;  // all at once, without noise
    EXPECT_EQ(bitwise_equal(first.state, memory->retrieve(queries, ways(2)[way]).state), is_deterministic) << way;
  }
}

TEST_P(TwoValued, StopsWhereNothingChanges) {
  const auto memory = with(signs(10, 100, 1));
  const auto queries = flipped(memory->patterns(), 0.1, 2);
  const auto none = memory->retrieve(queries, RecallOptions().update_steps_max(0));
  EXPECT_TRUE(bitwise_equal(none.state, queries));
  EXPECT_TRUE(none.residual.isnan().all().item<bool>());
  EXPECT_FALSE(none.converged.any().item<bool>());
  EXPECT_EQ(none.steps.max().item<int64_t>(), 0);
  const auto done = memory->retrieve(queries);
  EXPECT_TRUE(done.converged.all().item<bool>());
  EXPECT_TRUE(done.period.eq(1).all().item<bool>());
  EXPECT_EQ(done.residual.max().item<double>(), 0);
  const auto most = done.steps.max().item<int64_t>();
  EXPECT_GE(done.steps.min().item<int64_t>(), 2);
  expect_equal(memory->retrieve(queries, RecallOptions().update_steps_max(most + 100)), done);
  const auto capped = memory->retrieve(queries, RecallOptions().update_steps_cap(1));
  EXPECT_EQ(capped.steps.max().item<int64_t>(), 1);
  EXPECT_FALSE(capped.converged.any().item<bool>());
  EXPECT_TRUE(bitwise_equal(capped.residual, (capped.state != queries).sum(-1).to(at::kDouble)));
  // A query does not change, nor does the memory's answer when its result is changed in place.
  EXPECT_TRUE(bitwise_equal(none.state, queries));
  done.state.zero_();
  EXPECT_TRUE(bitwise_equal(memory->retrieve(queries).state, memory->patterns()));
}

TEST_P(TwoValued, ForgetsAsIfNeverStored) {
  const auto patterns = signs(30, 100, 1);
  const auto kept = torch::tensor({1, 2, 3, 5, 8, 13, 21, 29});
  auto gone = at::ones({30}, at::kBool);
  gone.index_fill_(0, kept, false);
  const auto memory = with(patterns);
  memory->forget(gone.nonzero().squeeze(-1));
  const auto never = with(patterns.index_select(0, kept));
  for (const auto& options : ways(5)) {
    expect_equal(memory->retrieve(signs(50, 100, 2), options), never->retrieve(signs(50, 100, 2), options));
  }
}

TEST_P(TwoValued, IsTheSameAfterSavingAndLoading) {
  const io_test::TemporaryFolder folder;
  for (const auto type : {at::kFloat, at::kDouble}) {
    const auto memory = with(signs(30, 100, 1, type));
    if (auto* binary = dynamic_cast<BinaryNetwork*>(memory.get())) binary->set_thresholds(randn({100}, 3).to(type));
    memory->save(folder.file("memory"));
    const auto loaded = load(folder.file("memory"));
    EXPECT_STREQ(loaded->kind(), memory->kind());
    for (const auto& options : ways(5)) {
      expect_equal(loaded->retrieve(signs(50, 100, 2, type), options),
                   memory->retrieve(signs(50, 100, 2, type), options));
    }
    loaded->store(signs(2, 100, 4, type)), memory->store(signs(2, 100, 4, type));
    expect_equal(loaded->retrieve(signs(50, 100, 2, type)), memory->retrieve(signs(50, 100, 2, type)));
    loaded->save(folder.file("again")), memory->save(folder.file("memory"));
    EXPECT_EQ(io_test::read_bytes(folder.file("again")), io_test::read_bytes(folder.file("memory")));
  }
}

TEST_P(TwoValued, SaysWhichPatternCameBack) {
  const auto patterns = signs(GetParam().patterns_of_256_neurons, 256, 1, at::kFloat);
  const auto memory = with(patterns);
  const auto noise = memory->retrieve(signs(1000, 256, 2, at::kFloat));
  EXPECT_LE(share(noise.matched), 0.05);
  const auto which = at::randint(patterns.size(0), {1000}, generator(3), at::TensorOptions().dtype(at::kLong));
  const auto cues = patterns.index_select(0, which);
  EXPECT_LE(share(memory->retrieve(shuffled(cues, 4)).matched), 0.05);
  const auto recall = memory->retrieve(flipped(cues, 0.1, 5));
  EXPECT_GE(share(recall.match == which), 0.95);
  EXPECT_TRUE(bitwise_equal(recall.matched, recall.match >= 0));
}

TEST_P(TwoValued, RefusesWhatItCannotServe) {
  const auto patterns = signs(4, 10, 1), queries = signs(2, 10, 2);
  const auto memory = with(patterns), empty = GetParam().make();
  const auto changed = [&](double value) {
    auto rows = patterns.clone();
    rows[1][2] = value;
    return rows;
  };
  const auto until_converged = [](double temperature) { return RecallOptions().temperature(temperature); };
  const auto three_steps = [&](double temperature) { return until_converged(temperature).update_steps_max(3); };
  for (const auto& wrong : std::vector<WrongCall>{
           {"an empty memory", [&] { empty->retrieve(queries); }, {"empty", "store()"}},
           {"no patterns", [&] { memory->store(patterns.narrow(0, 0, 0)); }, {"at least one pattern", "[0, 10]"}},
           {"wider patterns", [&] { memory->store(signs(1, 11, 3)); }, {"patterns [Q, 10]", "[1, 11]"}},
           {"wider queries", [&] { memory->retrieve(signs(1, 11, 3)); }, {"queries [Q, 10]", "[1, 11]"}},
           {"bits", [&] { empty->store(patterns.clamp_min(0)); }, {"patterns of -1 and 1"}},
           {"a pattern with 0", [&] { memory->store(changed(0.0)); }, {"patterns of -1 and 1", "sign()"}},
           {"a query with 0.5", [&] { memory->retrieve(changed(0.5)); }, {"queries of -1 and 1"}},
           {"a state with 0.5", [&] { memory->energy(changed(0.5)); }, {"states of -1 and 1"}},
           {"a pattern with NaN", [&] { memory->store(changed(kNan)); }, {"finite patterns"}},
           {"a query with NaN", [&] { memory->retrieve(changed(kNan)); }, {"finite queries"}},
           {"a state with infinity", [&] { memory->energy(changed(kInfinity)); }, {"finite states"}},
           {"a negative temperature", [&] { memory->retrieve(queries, three_steps(-1.0)); }, {"temperature", "-1"}},
           {"a temperature of NaN", [&] { memory->retrieve(queries, three_steps(kNan)); }, {"temperature", "nan"}},
           {"an infinite temperature", [&] { memory->retrieve(queries, three_steps(kInfinity)); }, {"inf"}},
           {"noise until converged",
            [&] { memory->retrieve(queries, until_converged(0.5)); },
            {"temperature 0.5", "set update_steps_max"}},
           {"a cap of 0",
            [&] { memory->retrieve(queries, RecallOptions().update_steps_cap(0)); },
            {"update_steps_cap", "0"}},
       }) {
    expect_error(wrong);
  }
  EXPECT_TRUE(bitwise_equal(memory->patterns(), patterns));
  EXPECT_EQ(empty->size(), 0);
  expect_equal(memory->retrieve(queries), with(patterns)->retrieve(queries));
}

TEST(TwoValuedErrors, OptionsAndThresholds) {
  BinaryNetwork network(signs(4, 10, 1)), empty;
  const auto polynomial_of = [](int64_t degree) { PolynomialMemory(PolynomialOptions().degree(degree)); };
  for (const auto& wrong : std::vector<WrongCall>{
           {"degree 1", [&] { polynomial_of(1); }, {"degree from 2", "got 1"}},
           {"a negative degree", [&] { polynomial_of(-3); }, {"degree from 2", "got -3"}},
           {"a degree too high", [&] { polynomial_of(1000); }, {"to 64", "got 1000", "ExponentialMemory"}},
           {"thresholds for nothing", [&] { empty.set_thresholds(at::ones({10})); }, {"empty", "store()"}},
           {"undefined thresholds", [&] { network.set_thresholds({}); }, {"thresholds [10]", "undefined"}},
           {"a wide threshold", [&] { network.set_thresholds(randn({11}, 1)); }, {"thresholds [10]", "[11]"}},
           {"thresholds of another type",
            [&] { network.set_thresholds(at::ones({10}, at::kFloat)); },
            {"Double", "Float"}},
           {"a threshold of NaN",
            [&] { network.set_thresholds(at::full({10}, kNan, at::kDouble)); },
            {"finite thresholds"}},
           {"names of wider states", [&] { network.name_state(signs(1, 11, 2)); }, {"states [Q, 10]", "[1, 11]"}},
       }) {
    expect_error(wrong);
  }
  EXPECT_TRUE(bitwise_equal(network.thresholds(), at::zeros({10}, at::kDouble)));
}

TEST(TwoValuedErrors, Files) {
  const io_test::TemporaryFolder folder;
  const auto path = folder.file("memory");
  const auto patterns = signs(4, 10, 1);
  const auto loading = [&](const char* kind, io::Metadata metadata, const io::TensorDict& tensors) {
    metadata["hopfield.memory"] = kind, metadata["hopfield.memory.version"] = "1";
    return [=] {
      io::save_safetensors(path, tensors, metadata);
      load(path);
    };
  };
  const auto binary = [&](const at::Tensor& couplings, const at::Tensor& thresholds = {}, const char* rule = "hebb",
                          const char* self_coupling = "false") {
    io::TensorDict tensors;
    tensors.insert("patterns", patterns), tensors.insert("couplings", couplings);
    if (thresholds.defined()) tensors.insert("thresholds", thresholds);
    return loading("BinaryNetwork", {{"rule", rule}, {"self_coupling", self_coupling}}, tensors);
  };
  const auto dense = [&](const char* kind, const io::Metadata& metadata, const at::Tensor& rows) {
    io::TensorDict tensors;
    tensors.insert("patterns", rows);
    return loading(kind, metadata, tensors);
  };
  const auto good = at::zeros({10, 10}, at::kDouble);
  auto asymmetric = good.clone();
  asymmetric[1][2] = 1;
  EXPECT_EQ(error_of(binary(good)), "");
  for (const auto& wrong : std::vector<WrongCall>{
           {"weights of another shape", binary(at::zeros({9, 9}, at::kDouble)), {"'couplings'", "[10, 10]", "[9, 9]"}},
           {"weights of one dimension", binary(at::zeros({10}, at::kDouble)), {"'couplings'", "2 dimensions", "[10]"}},
           {"weights of another type", binary(good.to(at::kFloat)), {"'couplings'", "Double", "Float"}},
           {"weights of NaN", binary(at::full({10, 10}, kNan, at::kDouble)), {"'couplings'", "finite and symmetric"}},
           {"asymmetric weights", binary(asymmetric), {"'couplings'", "finite and symmetric"}},
           {"wide thresholds", binary(good, at::zeros({11}, at::kDouble)), {"thresholds [10]", "[11]"}},
           {"an unknown rule", binary(good, {}, "guess"), {"'rule'", "storkey", "guess"}},
           {"an unknown self-coupling", binary(good, {}, "hebb", "maybe"), {"'self_coupling'", "maybe"}},
           {"no degree", dense("PolynomialMemory", {{"rectified", "true"}}, patterns), {"'degree'"}},
           {"a broken degree",
            dense("PolynomialMemory", {{"rectified", "true"}, {"degree", "2.5"}}, patterns),
            {"'degree'", "integer", "2.5"}},
           {"degree 1",
            dense("PolynomialMemory", {{"rectified", "true"}, {"degree", "1"}}, patterns),
            {"degree from 2", "got 1"}},
           {"an endless degree",
            dense("PolynomialMemory", {{"rectified", "true"}, {"degree", "1e300"}}, patterns),
            {"'degree'", "1e300"}},
           {"rectified in part",
            dense("PolynomialMemory", {{"rectified", "half"}, {"degree", "3"}}, patterns),
            {"'rectified'", "half"}},
           {"patterns of zeros", dense("ExponentialMemory", {}, at::zeros({2, 3})), {"patterns of -1 and 1"}},
       }) {
    expect_error(wrong);
  }
}

}  // namespace
}  // namespace hopfield::memory
