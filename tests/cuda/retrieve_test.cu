// Attention-like retrieval against the formula in float64.

#include "retrieve_case.h"

namespace hopfield::kernels::cuda {
namespace {

struct Found {
  std::vector<double> output, state, logsumexp, residual, scores;
  std::vector<int64_t> steps;
};

/// Products see a state as the type has it.
Found formula(const Retrieval& r, const Patterns& p) {
  Found found;
  found.scores.assign(static_cast<size_t>(r.heads * r.queries * (r.bags.empty() ? r.batch : 1) * r.all_keys()), 0.0);
  for (int64_t row = 0; row < r.rows(); ++row) {
    const int64_t n = row / (r.heads * r.queries), h = row / r.queries % r.heads, l = row % r.queries;
    const auto [first, keys] = r.range(n);
    std::vector<double> xi(static_cast<size_t>(r.depth)), mean;
    for (int64_t k = 0; k < r.depth; ++k) xi[k] = p.state[row * r.depth + k];
    double residual = std::nan(""), lse = -kInfinity;
    int64_t steps = 0;
    bool frozen = false;
    for (int64_t step = 0; step <= r.steps; ++step) {
      const bool last = step == r.steps;
      if (frozen && !last) continue;
      std::vector<double> scores(static_cast<size_t>(keys));
      double largest = -kInfinity, sum = 0;
      for (int64_t i = 0; i < keys; ++i) {
        double bias =
            r.key_bias ? p.key_bias[(r.shared_batch || !r.bags.empty() ? 0 : n) * r.all_keys() + first + i] : 0;
        if (r.mask == ScoreMask::Kind::float32) bias += p.mask[r.mask_at(n, h, l, i)];
        if (r.mask == ScoreMask::Kind::boolean && p.mask[r.mask_at(n, h, l, i)] != 0) bias = -kInfinity;
        double score = 0;
        for (int64_t k = 0; k < r.depth && bias != -kInfinity; ++k) {
          const double query = r.eps > 0 ? xi[k] : rounded(static_cast<float>(xi[k]), r.type);
          score += query * p.stored[r.pattern(n, h, first + i, r.depth) + k];
        }
        scores[i] = bias == -kInfinity ? bias : r.beta * score + bias;
        largest = std::max(largest, scores[i]);
        if (last) {
          const auto at = r.bags.empty() ? row * r.keys + i : ((first + i) * r.heads + h) * r.queries + l;
          found.scores[at] = scores[i];
        }
      }
      for (const auto score : scores) sum += score == -kInfinity ? 0.0 : std::exp(score - largest);
      lse = largest == -kInfinity ? -kInfinity : largest + std::log(sum);
      const bool values = last && r.width > 0;
      const int64_t width = values ? r.width : r.depth;
      mean.assign(static_cast<size_t>(width), 0.0);
      for (int64_t i = 0; i < keys; ++i) {
        if (scores[i] == -kInfinity) continue;
        double weight = std::exp(scores[i] - lse);
        if (last && r.dropout > 0) {
          const auto words = dropout_words(kSeed, static_cast<uint32_t>(n), static_cast<uint32_t>(h),
                                           static_cast<uint32_t>(l), static_cast<uint32_t>(i / 4));
          weight *= words[i % 4] < dropout_threshold(r.dropout) ? 0.0 : 1.0 / (1.0 - r.dropout);
        }
        const auto& patterns = values ? p.values : p.stored;
        for (int64_t k = 0; k < width; ++k) mean[k] += weight * patterns[r.pattern(n, h, first + i, width) + k];
      }
      if (last) break;
      frozen = largest == -kInfinity;
      residual = 0;
      if (frozen) continue;
      for (int64_t k = 0; k < r.depth; ++k) residual += (mean[k] - xi[k]) * (mean[k] - xi[k]);
      residual = std::sqrt(residual);
      xi = mean;
      ++steps;
      frozen = r.eps > 0 && residual <= r.eps;
    }
    found.output.insert(found.output.end(), mean.begin(), mean.end());
    found.state.insert(found.state.end(), xi.begin(), xi.end());
    found.logsumexp.push_back(lse);
    found.residual.push_back(lse == -kInfinity ? 0.0 : residual);
    found.steps.push_back(steps);
  }
  return found;
}

Found run(const Retrieval& r, const Patterns& p) {
  const RetrievalOnDevice device(r, p);
  device.forward();
  const auto& out = device.out;
  const auto rows = device.rows(), depth = static_cast<size_t>(r.depth);
  Found found;
  found.output = device.download_typed(out.output, rows * static_cast<size_t>(r.value_width()));
  found.state = device.download_floats(out.states, rows * depth);
  found.logsumexp = device.download_floats(out.logsumexp, rows);
  found.residual = device.download_floats(out.residual, rows);
  found.scores = device.download_floats(out.scores, device.scores_size());
  found.steps = device.download(out.steps, rows);
  // What is written in the type is the same, rounded; what is saved is what was found.
  const auto typed = device.download_typed(out.state, rows * depth);
  for (size_t i = 0; i < typed.size(); ++i) {
    EXPECT_EQ(typed[i], rounded(static_cast<float>(found.state[i]), r.type)) << i;
  }
  const auto row = static_cast<size_t>(retrieve_saved_row(device.call)), saved_size = rows * row * r.steps;
  const auto saved = device.download_typed(out.saved.states, saved_size),
             rest = out.saved.rest != nullptr ? device.download_typed(out.saved.rest, saved_size) : saved;
  for (size_t i = 0; i < typed.size() && r.steps > 0; ++i) {
    const auto at = (static_cast<size_t>(r.steps - 1) * rows + i / depth) * row + i % depth;
    EXPECT_EQ(saved[at], typed[i]) << i;
    if (out.saved.rest != nullptr) {
      EXPECT_EQ(rest[at], rounded(static_cast<float>(found.state[i] - saved[at]), r.type)) << i;
    }
  }
  return found;
}

void check(const Retrieval& r) {
  const auto patterns = draw(r);
  const auto reference = formula(r, patterns), found = run(r, patterns);
  // Weights are rounded to the type once, states once for each step.
  const double tolerance = r.type == ElementType::bfloat16 ? 2e-2 : r.type == ElementType::float16 ? 3e-3 : 2e-5;
  expect_near(found.output, reference.output, tolerance, "output");
  expect_near(found.state, reference.state, tolerance, "state");
  expect_near(found.logsumexp, reference.logsumexp, tolerance, "logsumexp");
  expect_near(found.scores, reference.scores, 2 * tolerance, "scores");
  expect_near(found.residual, reference.residual, tolerance, "residual");
  if (r.eps == 0) {
    EXPECT_EQ(found.steps, reference.steps);
  }
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
  const auto together = run(r, patterns);
  auto alone = r;
  alone.batch = 1;
  auto part = patterns;
  const auto state = r.heads * r.queries * r.depth;
  part.state.assign(patterns.state.begin() + 5 * state, patterns.state.begin() + 6 * state);
  const auto found = run(alone, part);
  EXPECT_TRUE(std::equal(found.output.begin(), found.output.end(), together.output.begin() + 5 * state));
}

}  // namespace
}  // namespace hopfield::kernels::cuda
