#include "memory/patterns.h"
#include "support/naive.h"
#include <hopfield/memory/continuous.h>

#include <torch/autograd.h>

#include <gtest/gtest.h>

namespace hopfield::memory {
namespace {

using namespace memory_test;
using hopfield::testing::bitwise_equal;
using hopfield::testing::max_difference;
using hopfield::testing::randn;

constexpr Similarity kAll[] = {Similarity::dot, Similarity::cosine, Similarity::euclidean};

/// Scores of the patterns over beta, and the energy, written out.
struct Naive {
  at::Tensor keys, log_weights;
  double beta;
  Similarity similarity;

  at::Tensor scores(const at::Tensor& states) const {
    if (similarity != Similarity::euclidean) return beta * at::mm(states, keys.t()) + log_weights;
    return -0.5 * beta * (states.unsqueeze(1) - keys).pow(2).sum(-1) + log_weights;
  }
  at::Tensor update(const at::Tensor& states) const { return at::mm(scores(states).softmax(-1), keys); }
  at::Tensor energy(const at::Tensor& states) const {
    const auto lse = (at::logsumexp(scores(states), -1) - at::logsumexp(log_weights, 0)) / beta;
    if (similarity == Similarity::euclidean) return -lse;
    return -lse + 0.5 * states.pow(2).sum(-1) + 0.5 * keys.pow(2).sum(-1).max();
  }
};

TEST(ContinuousMemory, UpdatesAndEnergyAreTheFormulas) {
  const auto patterns = 0.5 * randn({12, 6}, 1), queries = randn({9, 6}, 2), values = randn({12, 3}, 3);
  const auto weights = at::rand({12}, generator(4), at::kDouble) + 0.1;
  for (const auto similarity : kAll) {
    ContinuousMemory memory(ContinuousOptions().beta(1.7).similarity(similarity));
    memory.store(patterns, values);
    memory.set_weights(weights);
    const auto is_cosine = similarity == Similarity::cosine;
    const auto unit = [](const at::Tensor& rows) { return rows / rows.norm(2, -1, true); };
    const Naive naive{is_cosine ? unit(patterns) : patterns, weights.log(), 1.7, similarity};
    auto state = is_cosine ? unit(queries) : queries;
    for (int64_t steps = 0; steps < 4; ++steps) {
      const auto recall = memory.retrieve(queries, RecallOptions().update_steps_max(steps).update_steps_eps(0.0));
      EXPECT_LT(max_difference(recall.state, state), 1e-13);
      EXPECT_LT(max_difference(recall.energy, naive.energy(state)), 1e-13);
      EXPECT_LT(max_difference(recall.output, at::mm(naive.scores(state).softmax(-1), values)), 1e-13);
      EXPECT_LT(max_difference(memory.energy(state), recall.energy), 1e-13);
      state = naive.update(state);
    }
  }
}

TEST(ContinuousMemory, EnergyNeverRisesAndIsStationaryWhereUpdatesConverged) {
  // Theorems 1 and 2 of the paper.
  for (const auto similarity : kAll) {
    for (const double beta : {0.3, 2.0, 20.0}) {
      ContinuousMemory memory(randn({40, 8}, 1), ContinuousOptions().beta(beta).similarity(similarity));
      memory.set_weights(at::rand({40}, generator(2), at::kDouble) + 0.1);
      const auto queries = 2 * randn({50, 8}, 3);
      auto before = memory.retrieve(queries, RecallOptions().update_steps_max(0)).energy;
      for (int64_t steps = 1; steps <= 30; ++steps) {
        const auto now = memory.retrieve(queries, RecallOptions().update_steps_max(steps).update_steps_eps(0.0)).energy;
        EXPECT_LE((now - before).max().item<double>(), 1e-13) << "similarity " << static_cast<int>(similarity);
        before = now;
      }
      const auto recall = memory.retrieve(queries, RecallOptions().update_steps_cap(1000));
      EXPECT_GE(recall.converged.sum().item<int64_t>(), 45) << "beta " << beta;
      auto state = recall.state.index({recall.converged}).requires_grad_(true);
      const auto gradient = torch::autograd::grad({memory.energy(state).sum()}, {state})[0];
      EXPECT_LE(gradient.norm(2, -1).max().item<double>(), 1e-10);
      EXPECT_TRUE(recall.period.eq(recall.converged.to(at::kLong)).all().item<bool>());
    }
  }
}

TEST(ContinuousMemory, RetrievesSimilarPatternsAndSaysWhich) {
  for (const auto type : {at::kFloat, at::kDouble}) {
    const auto patterns = sphere(1000, 64, 1, 8.0).to(type);
    const ContinuousMemory memory(patterns, ContinuousOptions().beta(1.0));
    const auto recall = memory.retrieve(patterns + randn({1000, 64}, 2).to(type) * 0.3);
    EXPECT_TRUE(recall.converged.all().item<bool>());
    EXPECT_TRUE(recall.match.equal(at::arange(1000)));
    EXPECT_TRUE(recall.matched.all().item<bool>());
    EXPECT_LT(max_difference(recall.state, patterns), 1e-3);
    EXPECT_EQ(recall.state.scalar_type(), type);
    EXPECT_EQ(recall.energy.scalar_type(), type);
  }
}

TEST(ContinuousMemory, SparseSeparationsRetrieveExactly) {
  // The score of a pattern exceeds all others by the margin m = 1 / (alpha - 1) where the cue is so close.
  const auto patterns = randn({200, 24}, 1);
  const auto products = at::mm(patterns, patterns.t());
  auto others = products.clone();
  others.fill_diagonal_(-1e300);
  const auto separations = (products.diagonal() - others.amax(-1));
  const auto cues = patterns + sphere(200, 24, 2, 1e-3);
  const auto largest = patterns.norm(2, -1).max().item<double>();
  for (const auto& separation : {Separation::sparsemax(), Separation::entmax(1.5)}) {
    const double beta = 8.0, margin = 1 / (separation.alpha() - 1);
    const ContinuousMemory memory(patterns, ContinuousOptions().beta(beta).separation(separation));
    const auto recall = memory.retrieve(cues, RecallOptions().update_steps_max(1));
    const auto sure = separations >= margin / beta + 2 * largest * 1e-3;
    ASSERT_GT(sure.sum().item<int64_t>(), 100);
    EXPECT_TRUE(bitwise_equal(recall.state.index({sure}), patterns.index({sure})));
    const auto path = ::testing::TempDir() + "hopfield.sparse.safetensors";
    memory.save(path);
    EXPECT_TRUE(bitwise_equal(load(path)->retrieve(cues).state, memory.retrieve(cues).state));
    const auto energies = memory.energy(at::cat({cues, recall.state})).view({2, 200});
    EXPECT_LE((energies[1] - energies[0]).max().item<double>(), 1e-12);
  }
}

TEST(ContinuousMemory, IntegerWeightsCountAsCopies) {
  const auto patterns = randn({5, 4}, 1), queries = randn({7, 4}, 2);
  const auto counts = at::tensor({3, 1, 2, 1, 4});
  for (const auto similarity : kAll) {
    const auto options = ContinuousOptions().beta(1.5).similarity(similarity);
    ContinuousMemory weighted(patterns, options);
    weighted.set_weights(counts.to(at::kDouble));
    const ContinuousMemory copies(patterns.repeat_interleave(counts, 0), options);
    const auto a = weighted.retrieve(queries), b = copies.retrieve(queries);
    EXPECT_LT(max_difference(a.state, b.state), 1e-10);
    EXPECT_LT(max_difference(a.output, b.output), 1e-10);
    EXPECT_LT(max_difference(a.energy, b.energy), 1e-12);
  }
}

TEST(ContinuousMemory, OlderPatternsFade) {
  // Two patterns at the same distance from the cue: the younger one comes back.
  ContinuousMemory memory(ContinuousOptions().beta(20.0));
  const auto pair = sphere(2, 16, 1), old = pair[0], young = pair[1], cue = pair.mean(0);
  memory.store(old);
  EXPECT_TRUE(bitwise_equal(memory.weights(), at::ones({1}, at::kDouble)));
  memory.age(0.5);
  memory.age(0.5);
  memory.store(young);
  EXPECT_LT(max_difference(memory.weights(), at::tensor({0.25, 1.0}, at::kDouble)), 1e-15);
  EXPECT_EQ(memory.retrieve(cue).match.item<int64_t>(), 1);
  memory.forget(at::tensor({0}));
  EXPECT_LT(max_difference(memory.weights(), at::ones({1}, at::kDouble)), 1e-15);
}

TEST(ContinuousMemory, ReadsOutValues) {
  const auto names = sphere(50, 32, 1, 6.0), faces = randn({50, 5}, 2);
  ContinuousMemory memory(ContinuousOptions().beta(2.0));
  memory.store(names.narrow(0, 0, 20), faces.narrow(0, 0, 20));
  memory.store(names.narrow(0, 20, 30), faces.narrow(0, 20, 30));
  const auto recall = memory.retrieve(names + 0.2 * randn({50, 32}, 3));
  EXPECT_LT(max_difference(recall.output, faces), 1e-6);
  EXPECT_TRUE(recall.match.equal(at::arange(50)));
  memory.forget(at::tensor({0, 49}));
  EXPECT_TRUE(bitwise_equal(memory.values(), faces.narrow(0, 1, 48)));
}

TEST(ContinuousMemory, CompletesCuesFromTheKnownFeatures) {
  const auto patterns = randn({30, 8}, 1) * at::linspace(0.2, 3.0, 30, at::kDouble).unsqueeze(-1);
  const auto queries = randn({20, 8}, 2);
  const auto known = at::rand({20, 8}, generator(3)) < 0.5;
  for (const auto similarity : {Similarity::dot, Similarity::euclidean}) {
    ContinuousMemory memory(patterns, ContinuousOptions().beta(3.0).similarity(similarity));
    const auto weights = at::rand({30}, generator(4), at::kDouble) + 0.1;
    memory.set_weights(weights);
    const auto mask = known.to(at::kDouble);
    auto scores = 3.0 * at::mm(queries * mask, patterns.t()) + weights.log();
    if (similarity == Similarity::euclidean) scores -= 1.5 * at::mm(mask, patterns.pow(2).t());
    const auto mean = at::mm(scores.softmax(-1), patterns);

    const auto recall = memory.retrieve(queries, known);
    EXPECT_LT(max_difference(recall.state, at::where(known, queries, mean)), 1e-13);
    EXPECT_LT(max_difference(recall.output, mean), 1e-13);
    EXPECT_TRUE(recall.converged.all().item<bool>());
    EXPECT_TRUE(recall.steps.eq(1).all().item<bool>());
    const auto unknown_nan = queries.masked_fill(known.bitwise_not(), std::nan(""));
    EXPECT_TRUE(bitwise_equal(memory.retrieve(unknown_nan, known).state, recall.state));

    const auto once = memory.retrieve(queries, known, RecallOptions().keep_known(false).update_steps_max(1));
    EXPECT_LT(max_difference(once.state, mean), 1e-13);
    // With everything known and nothing kept, it is the retrieval without a mask.
    const auto full = memory.retrieve(queries, at::ones_like(known), RecallOptions().keep_known(false));
    const auto plain = memory.retrieve(queries);
    EXPECT_LT(max_difference(full.state, plain.state), 1e-12);
    EXPECT_TRUE(full.steps.equal(plain.steps));
    EXPECT_TRUE(full.converged.equal(plain.converged));
  }
}

TEST(ContinuousMemory, CompletesHalfHiddenDigits) {
  if (!has_digits()) GTEST_SKIP() << "no digits.csv: run scripts/bootstrap.sh --tests";
  const auto images = digits();
  auto known = at::zeros({8, 8}, at::kBool);
  known.narrow(0, 0, 4).fill_(true);
  const auto upper = known.flatten().expand_as(images);
  const auto rate = [&](Similarity similarity, double beta) {
    const ContinuousMemory memory(images, ContinuousOptions().beta(beta).similarity(similarity));
    const auto recall = memory.retrieve(images, upper);
    return all_close_rows(recall.state, images, 0.5 / 16).to(at::kDouble).mean().item<double>();
  };
  // Distances of images in these pixels are at least 1 / 16, unless their upper halves are the same.
  EXPECT_GT(rate(Similarity::euclidean, 2048), 0.999);
  EXPECT_LT(rate(Similarity::dot, 64), 0.3);
}

TEST(ContinuousMemory, FindsTheMostSimilarPatterns) {
  for (const int64_t count : {1, 5, 63, 64, 65, 1000, 9000}) {
    const auto patterns = randn({count, 7}, 1) + 3.0, states = randn({11, 7}, 2) + 3.0;
    for (const auto similarity : kAll) {
      const ContinuousMemory memory(patterns, ContinuousOptions().similarity(similarity));
      auto expected = at::mm(states, patterns.t());
      if (similarity == Similarity::cosine) expected /= states.norm(2, -1, true) * patterns.norm(2, -1);
      if (similarity == Similarity::euclidean) expected = -0.5 * at::cdist(states, patterns).pow(2);
      for (const int64_t k : {1, 3, 80}) {
        const auto found = memory.best_matches(states, k);
        const auto there = std::min(k, count);
        const auto [values, indices] = expected.topk(there, -1);
        EXPECT_LT(max_difference(found.values.narrow(1, 0, there), values), 1e-12);
        EXPECT_TRUE(found.indices.narrow(1, 0, there).equal(indices));
        EXPECT_TRUE(found.indices.narrow(1, there, k - there).eq(-1).all().item<bool>());
        EXPECT_TRUE(found.values.narrow(1, there, k - there).isnan().all().item<bool>());
      }
      EXPECT_EQ(memory.best_matches(states[0], 2).indices.sizes(), at::IntArrayRef({2}));
    }
  }
}

TEST(ContinuousMemory, IsSavedWithAllItHolds) {
  for (const auto similarity : kAll) {
    ContinuousMemory memory(ContinuousOptions().beta(0.1 + 0.2).similarity(similarity));
    memory.store(randn({6, 4}, 1).to(at::kFloat), randn({6, 2}, 2).to(at::kFloat));
    memory.age(0.3);
    const auto path = ::testing::TempDir() + "hopfield.continuous.safetensors";
    memory.save(path);
    const auto loaded = load(path);
    const auto& copy = dynamic_cast<ContinuousMemory&>(*loaded);
    EXPECT_EQ(copy.beta(), memory.beta());
    const auto queries = randn({3, 4}, 3).to(at::kFloat);
    const auto a = memory.retrieve(queries), b = copy.retrieve(queries);
    EXPECT_TRUE(bitwise_equal(a.state, b.state) && bitwise_equal(a.output, b.output) &&
                bitwise_equal(a.energy, b.energy) && bitwise_equal(copy.weights(), memory.weights()));
  }
}

}  // namespace
}  // namespace hopfield::memory
