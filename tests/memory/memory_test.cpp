#include "io/files.h"
#include "memory/patterns.h"
#include "support/allocations.h"
#include "support/errors.h"
#include "support/naive.h"
#include <hopfield/io/safetensors.h>
#include <hopfield/memory/continuous.h>

#include <gtest/gtest.h>

#include <limits>
#include <set>

namespace hopfield::memory {
namespace {

using namespace memory_test;
using hopfield::testing::bitwise_equal;
using hopfield::testing::expect_error;
using hopfield::testing::max_difference;
using hopfield::testing::peak_bytes;
using hopfield::testing::randn;
using hopfield::testing::WrongCall;

/// The similarities that are high enough come back.
double share(const at::Tensor& rows) { return rows.to(at::kDouble).mean().item<double>(); }

TEST(Memory, AdoptsPatternsWithoutCopyingThem) {
  const auto patterns = randn({1000, 64}, 1);
  std::unique_ptr<ContinuousMemory> memory;
  const auto bytes = peak_bytes([&] { memory = std::make_unique<ContinuousMemory>(patterns); });
  EXPECT_EQ(memory->patterns().data_ptr(), patterns.data_ptr());
  EXPECT_LT(bytes, static_cast<int64_t>(patterns.nbytes()) * 3 / 2);
}

TEST(Memory, StoringCostsWhatTheNewPatternsCost) {
  ContinuousMemory memory(randn({1000, 16}, 1));
  const auto expected = at::cat({memory.patterns().clone(), randn({3000, 16}, 2)});
  std::set<const void*> places;
  for (int64_t row = 1000; row < 4000; ++row) {
    memory.store(expected[row]);
    places.insert(memory.patterns().data_ptr());
  }
  EXPECT_TRUE(bitwise_equal(memory.patterns(), expected));
  EXPECT_LE(places.size(), 2);
}

TEST(Memory, GrowingRowsShareWhatTheyHaveAndNothingElse) {
  GrowingRows rows(at::zeros({3, 2}));
  rows.append(at::ones({2, 2}));
  auto copy = rows;
  rows.append(at::full({1, 2}, 2.0));
  copy.append(at::full({1, 2}, 3.0));
  EXPECT_EQ(rows.rows()[5][0].item<double>(), 2.0);
  EXPECT_EQ(copy.rows()[5][0].item<double>(), 3.0);
  const auto seen = rows.rows();
  rows.truncate(4);
  rows.append(at::full({1, 2}, 4.0));
  EXPECT_EQ(seen[4][0].item<double>(), 1.0);
  EXPECT_EQ(rows.rows()[4][0].item<double>(), 4.0);
}

TEST(Memory, ForgetsAsIfNeverStored) {
  const auto patterns = randn({10, 5}, 1), queries = randn({4, 5}, 2);
  ContinuousMemory memory(patterns.clone());
  memory.forget(at::tensor({7, 0, 3}));
  const ContinuousMemory rest(patterns.index_select(0, at::tensor({1, 2, 4, 5, 6, 8, 9})));
  EXPECT_EQ(memory.size(), 7);
  EXPECT_TRUE(bitwise_equal(memory.retrieve(queries).state, rest.retrieve(queries).state));
  memory.forget(at::empty({0}, at::kLong));
  EXPECT_EQ(memory.size(), 7);
  memory.forget(at::arange(7));
  EXPECT_EQ(memory.size(), 0);
  memory.store(patterns);
  EXPECT_TRUE(bitwise_equal(memory.patterns(), patterns));
}

TEST(Memory, AnswersSingleQueries) {
  const ContinuousMemory memory(sphere(20, 16, 1, 5.0), ContinuousOptions().beta(2.0));
  const auto one = memory.retrieve(memory.patterns()[3]);
  const auto batch = memory.retrieve(memory.patterns());
  EXPECT_EQ(one.state.dim(), 1);
  for (const auto& tensor : {one.energy, one.steps, one.converged, one.residual, one.period, one.matched, one.match}) {
    EXPECT_EQ(tensor.dim(), 0);
  }
  EXPECT_LT(max_difference(one.state, batch.state[3]), 1e-14);
  EXPECT_EQ(one.match.item<int64_t>(), 3);
  EXPECT_EQ(memory.energy(one.state).dim(), 0);
  EXPECT_EQ(memory.retrieve(at::empty({0, 16}, at::kDouble)).state.sizes(), at::IntArrayRef({0, 16}));
}

TEST(Memory, NothingMatchesNoiseAndTheRightPatternMatchesNoisyOnes) {
  if (!has_digits()) GTEST_SKIP() << "no digits.csv: run scripts/bootstrap.sh --tests";
  const auto images = digits();
  const ContinuousMemory memory(images, ContinuousOptions().beta(64.0).similarity(Similarity::euclidean));
  const auto some = at::randperm(images.size(0), generator(1), at::kLong).narrow(0, 0, 1000);
  const auto chosen = images.index_select(0, some);
  const auto noisy = memory.retrieve(chosen + 0.1 * randn({1000, 64}, 2));
  EXPECT_GE(share(noisy.match == some), 0.95);
  EXPECT_GE(share(memory.retrieve(at::rand({1000, 64}, generator(3), at::kDouble)).match == -1), 0.95);
  EXPECT_GE(share(memory.retrieve(randn({1000, 64}, 4)).match == -1), 0.95);
  EXPECT_GE(share(memory.retrieve(shuffled(chosen, 5)).match == -1), 0.95);

  // Two-valued patterns.
  const auto patterns = signs(500, 256, 6);
  const ContinuousMemory of_signs(patterns, ContinuousOptions().beta(1.0));
  const auto rows = at::arange(1000) % 500;
  const auto stored = patterns.index_select(0, rows);
  EXPECT_GE(share(of_signs.retrieve(flipped(stored, 0.1, 7)).match == rows), 0.95);
  EXPECT_GE(share(of_signs.retrieve(signs(1000, 256, 8)).match == -1), 0.95);
  EXPECT_GE(share(of_signs.retrieve(shuffled(stored, 9)).match == -1), 0.95);
}

TEST(Memory, AStateBetweenPatternsMatchesNone) {
  const ContinuousMemory memory(at::tensor({1.0, 1.0, 0.0, 1.0, 0.0, 1.0}, at::kDouble).view({2, 3}),
                                ContinuousOptions().beta(0.01));
  const auto recall = memory.retrieve(memory.patterns());
  EXPECT_TRUE(recall.match.eq(-1).all().item<bool>());
  EXPECT_FALSE(recall.matched.any().item<bool>());
  EXPECT_FALSE(memory.retrieve(memory.patterns(), RecallOptions().with_match(false)).match.defined());
}

TEST(Memory, PatternsWithoutContrastAndCopiesMatch) {
  const ContinuousMemory ones(at::ones({1, 8}, at::kDouble));
  EXPECT_EQ(ones.retrieve(at::ones({8}, at::kDouble)).match.item<int64_t>(), 0);
  auto patterns = sphere(10, 16, 1, 5.0);
  patterns[7] = patterns[2];
  const ContinuousMemory memory(patterns, ContinuousOptions().beta(2.0));
  const auto match = memory.retrieve(patterns[7]).match.item<int64_t>();
  EXPECT_TRUE(match == 2 || match == 7) << match;
  const ContinuousMemory with_zero(at::cat({at::zeros({1, 16}, at::kDouble), patterns}), ContinuousOptions().beta(2.0));
  EXPECT_EQ(with_zero.retrieve(patterns[0]).match.item<int64_t>(), 1);
}

TEST(Memory, SearchNeedsMemoryForATileOnly) {
  const ContinuousMemory memory(randn({100000, 8}, 1).to(at::kFloat));
  const auto states = randn({4000, 8}, 2).to(at::kFloat);
  const auto bytes = peak_bytes([&] { memory.best_matches(states, 2); });
  EXPECT_LT(bytes, 64 << 20) << "queries x patterns would take 1.6 GB";
}

TEST(Memory, RefusesWhatItCannotServe) {
  const auto patterns = randn({4, 3}, 1);
  ContinuousMemory empty, memory(patterns), with_values;
  with_values.store(patterns, randn({4, 2}, 2));
  const auto queries = randn({2, 3}, 3);
  const auto bad = [](double value) { return at::full({2, 3}, value, at::kDouble); };
  const double nan = std::nan(""), infinity = std::numeric_limits<double>::infinity();
  const auto known = at::ones({2, 3}, at::kBool);
  for (const auto& wrong : std::vector<WrongCall>{
           {"empty memory", [&] { empty.retrieve(queries); }, {"ContinuousMemory", "empty one", "store()"}},
           {"energy of an empty memory", [&] { empty.energy(queries); }, {"empty one"}},
           {"search in an empty memory", [&] { empty.best_matches(queries); }, {"empty one"}},
           {"saving an empty memory", [&] { empty.save("/dev/null/x"); }, {"empty one"}},
           {"undefined patterns", [&] { memory.store(at::Tensor()); }, {"patterns", "undefined"}},
           {"no patterns",
            [&] {
              memory.store(at::empty({0, 3}, at::kDouble));
            },
            {"at least one pattern", "[0, 3]"}},
           {"no features",
            [&] {
              empty.store(at::empty({3, 0}, at::kDouble));
            },
            {"one feature", "[3, 0]"}},
           {"too many dimensions",
            [&] {
              empty.store(at::zeros({2, 2, 2}));
            },
            {"[N, d]", "[2, 2, 2]"}},
           {"integers",
            [&] {
              empty.store(at::ones({2, 3}, at::kLong));
            },
            {"Float or Double", "Long"}},
           {"half precision",
            [&] {
              empty.store(at::ones({2, 3}, at::kHalf));
            },
            {"Float or Double", "Half"}},
           {"NaN in patterns", [&] { empty.store(bad(nan)); }, {"finite patterns"}},
           {"another width",
            [&] {
              memory.store(at::zeros({2, 4}, at::kDouble));
            },
            {"[Q, 3]", "[2, 4]"}},
           {"another type",
            [&] {
              memory.store(at::zeros({2, 3}));
            },
            {"patterns to be Double", "Float", "to()"}},
           {"undefined queries", [&] { memory.retrieve(at::Tensor()); }, {"queries", "undefined"}},
           {"queries of another width",
            [&] {
              memory.retrieve(at::zeros({2, 2}, at::kDouble));
            },
            {"[2, 2]"}},
           {"queries of another type", [&] { memory.retrieve(queries.to(at::kFloat)); }, {"Double", "Float"}},
           {"queries with a dimension more", [&] { memory.retrieve(queries.unsqueeze(0)); }, {"[1, 2, 3]"}},
           {"NaN in queries", [&] { memory.retrieve(bad(nan)); }, {"finite queries"}},
           {"infinite states", [&] { memory.energy(bad(infinity)); }, {"finite states"}},
           {"undefined states", [&] { memory.energy({}); }, {"states", "undefined"}},
           {"k of 0", [&] { memory.best_matches(queries, 0); }, {"k to be positive", "0"}},
           {"an alpha of entmax",
            [&] { ContinuousMemory(ContinuousOptions().separation(Separation::entmax(2.5))); },
            {"alpha", "2.5"}},
           {"softmax1 of distances",
            [&] {
              ContinuousMemory(
                  ContinuousOptions().similarity(Similarity::euclidean).separation(Separation::softmax1()));
            },
            {"softmax1", "euclidean"}},
           {"beta of 0", [&] { ContinuousMemory(ContinuousOptions().beta(0.0)); }, {"beta to be positive", "0"}},
           {"negative beta", [&] { ContinuousMemory(ContinuousOptions().beta(-1.0)); }, {"beta", "-1"}},
           {"beta of NaN", [&] { ContinuousMemory(ContinuousOptions().beta(nan)); }, {"beta", "nan"}},
           {"infinite beta", [&] { ContinuousMemory(ContinuousOptions().beta(infinity)); }, {"beta", "inf"}},
           {"an index too large",
            [&] {
              memory.forget(at::tensor({0, 4}));
            },
            {"from 0 to 3", "4"}},
           {"a negative index",
            [&] {
              memory.forget(at::tensor({-1, 0}));
            },
            {"from 0 to 3", "-1"}},
           {"an index twice",
            [&] {
              memory.forget(at::tensor({1, 1}));
            },
            {"repetitions"}},
           {"indices that are no integers", [&] { memory.forget(at::tensor({1.0})); }, {"integer indices", "Double"}},
           {"values of another count",
            [&] {
              empty.store(patterns, randn({3, 2}, 4));
            },
            {"N = 4", "[3, 2]"}},
           {"values of another type",
            [&] {
              empty.store(patterns, at::zeros({4, 2}));
            },
            {"values", "Double", "Float"}},
           {"NaN in values",
            [&] {
              empty.store(patterns, at::full({4, 2}, nan, at::kDouble));
            },
            {"finite values"}},
           {"values of another width",
            [&] {
              with_values.store(patterns, randn({4, 3}, 4));
            },
            {"width 2", "[4, 3]"}},
           {"patterns without values",
            [&] { with_values.store(patterns); },
            {"with values", "store(patterns, values)"}},
           {"values late",
            [&] {
              memory.store(patterns, randn({4, 2}, 4));
            },
            {"without values"}},
           {"a mask of another shape", [&] { memory.retrieve(queries, known[0]); }, {"known", "[3]"}},
           {"a mask of numbers",
            [&] { memory.retrieve(queries, known.to(at::kFloat)); },
            {"known to be bool", "Float"}},
           {"weights of another count", [&] { memory.set_weights(at::ones({3})); }, {"[4]", "[3]"}},
           {"a weight of 0", [&] { memory.set_weights(at::zeros({4})); }, {"positive", "forget()"}},
           {"aging by 0", [&] { memory.age(0.0); }, {"(0, 1]", "0"}},
           {"aging by 2", [&] { memory.age(2.0); }, {"(0, 1]", "2"}},
       }) {
    expect_error(wrong);
  }
  // Nothing was lost.
  EXPECT_EQ(empty.size(), 0);
  EXPECT_TRUE(bitwise_equal(memory.patterns(), patterns));
  EXPECT_EQ(memory.retrieve(queries).state.size(0), 2);
  EXPECT_EQ(with_values.size(), 4);
  EXPECT_EQ(with_values.retrieve(queries).output.size(1), 2);
}

TEST(Memory, KeepsTextsOfTheCallerInItsFile) {
  const io_test::TemporaryFolder folder;
  const auto path = folder.file("memory.safetensors");
  ContinuousMemory memory(at::ones({2, 3}), ContinuousOptions().beta(2.0));
  const io::Metadata texts{
      {"names", "näher, far"}, {"beta", "of the caller"}, {"hopfield.memory", "no kind"}, {"", ""}};
  memory.set_metadata(texts);
  memory.save(path);
  auto loaded = load(path);
  EXPECT_EQ(loaded->metadata(), texts);
  EXPECT_EQ(dynamic_cast<ContinuousMemory&>(*loaded).beta(), 2.0);
  loaded->set_metadata({});
  loaded->save(path);
  EXPECT_TRUE(load(path)->metadata().empty());
}

TEST(Memory, RefusesFilesThatAreNoMemories) {
  const io_test::TemporaryFolder folder;
  const auto path = folder.file("memory.safetensors");
  const auto write = [&](const io::Metadata& metadata, const std::vector<std::string>& names = {}) {
    io::TensorDict tensors;
    for (const auto& name : names) tensors.insert(name, at::ones({2, 3}));
    io::save_safetensors(path, tensors, metadata);
    return [=] { load(path); };
  };
  const auto meta = [](std::string kind, std::string version, io::Metadata more = {}) {
    more["hopfield.memory"] = std::move(kind), more["hopfield.memory.version"] = std::move(version);
    return more;
  };
  EXPECT_THAT(hopfield::testing::error_of([&] { load(folder.file("none")); }), ::testing::HasSubstr("none"));
  expect_error({"no memory", write({}, {"patterns"}), {"to be a memory", path}});
  expect_error({"a later version", write(meta("ContinuousMemory", "2"), {"patterns"}), {"version 1", "got 2"}});
  expect_error({"another kind", write(meta("Elephant", "1"), {"patterns"}), {"ContinuousMemory", "Elephant"}});
  expect_error({"no patterns", write(meta("ContinuousMemory", "1", {{"similarity", "dot"}})), {"'patterns'", path}});
  expect_error({"no similarity", write(meta("ContinuousMemory", "1"), {"patterns"}), {"'similarity'"}});
  expect_error({"an unknown similarity",
                write(meta("ContinuousMemory", "1", {{"similarity", "taste"}}), {"patterns"}),
                {"euclidean", "taste"}});
  expect_error({"beta that is no number",
                write(meta("ContinuousMemory", "1", {{"similarity", "dot"}, {"beta", "8x"}}), {"patterns"}),
                {"finite number", "8x"}});

  // A save that fails leaves the old file.
  ContinuousMemory memory(at::ones({2, 3}));
  memory.save(path);
  const auto bytes = io_test::read_bytes(path);
  EXPECT_THROW(ContinuousMemory().save(path), c10::Error);
  EXPECT_EQ(io_test::read_bytes(path), bytes);
  EXPECT_EQ(folder.size(), 1);
  EXPECT_THROW(memory.save(folder.file("no/folder")), c10::Error);
}

}  // namespace
}  // namespace hopfield::memory
