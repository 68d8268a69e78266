// Retrieval with the stop rule per_head against the formula in float64.

#include "retrieve_cases.h"

namespace hopfield::kernels::cuda {
namespace {

using hopfield::testing::kExp2Error;
using hopfield::testing::kRsqrtError;
using hopfield::testing::PlainAssociation;
using hopfield::testing::product_error;
using hopfield::testing::rounding_of;

struct Found : PlainResult {
  std::vector<uint8_t> converged;
};

Found results(const Retrieval& r, const RetrievalOnDevice& device) {
  const auto& out = device.out;
  const auto rows = device.rows(), depth = static_cast<size_t>(r.depth);
  Found found;
  found.output = device.download(out.output, r.value_width());
  found.logsumexp = device.download_floats(out.logsumexp, rows);
  found.residual = device.download_floats(out.residual, rows);
  found.scores = device.download_floats(out.scores, device.scores_size());
  found.steps = device.download(out.steps, rows);
  found.converged = device.download_converged();
  if (r.steps > 0) {
    const std::vector<double> states[] = {device.download_states(0), device.download_states(1)};
    for (size_t i = 0; i < rows * depth; ++i) found.state.push_back(states[found.steps[i / depth] % 2][i]);
  } else {
    found.state = device.download_states();
  }
  // The result is the float32 state, rounded to the type. Saved states stand still when a head has stopped.
  const auto typed = device.download(out.state, r.depth);
  for (size_t i = 0; i < typed.size(); ++i) {
    if (std::isnan(found.state[i])) continue;
    EXPECT_EQ(typed[i], rounded(static_cast<float>(found.state[i]), r.type)) << i;
  }
  const auto row = static_cast<size_t>(retrieve_saved_row(device.call)), saved_size = rows * row * r.steps;
  const auto saved = device.download_typed(out.saved.states, saved_size);
  for (size_t i = 0; i < typed.size(); ++i) {
    if (std::isnan(typed[i])) continue;
    for (auto step = std::max<int64_t>(found.steps[i / depth], 1); step <= r.steps; ++step) {
      const auto at = (static_cast<size_t>(step - 1) * rows + i / depth) * row + i % depth;
      EXPECT_EQ(saved[at], typed[i]) << i << " after step " << step;
    }
  }
  return found;
}

Found run(const Retrieval& r, const PlainCall& p) {
  const RetrievalOnDevice device(r, p);
  device.forward();
  return results(r, device);
}

/// Returns what the device found.
Found check(const Retrieval& r, const PlainCall& p) {
  const auto found = run(r, p);
  const bool exact = r.type == ElementType::float32;
  // With 16-bit numbers, the step at which a threshold is met depends on the last bits.
  std::vector<int64_t> made(static_cast<size_t>(r.heads), 0);
  for (size_t i = 0; i < found.steps.size(); ++i) {
    auto& of_head = made[static_cast<size_t>(static_cast<int64_t>(i) / r.queries % r.heads)];
    of_head = std::max(of_head, found.steps[i]);
  }
  const PlainOracle oracle(p);
  const auto reference = oracle.forward(false, exact ? std::vector<int64_t>() : made);
  const double tolerance = tolerance_of(r.type);
  if (exact) {
    EXPECT_TRUE(oracle.decides_clearly(tolerance));
  }
  EXPECT_EQ(found.steps, reference.steps);
  expect_near(found.output, reference.output, tolerance, "output");
  expect_near(found.state, reference.state, tolerance, "state");
  expect_near(found.logsumexp, reference.logsumexp, tolerance, "logsumexp");
  expect_near(found.scores, reference.scores, 2 * tolerance, "scores");
  expect_near(found.residual, reference.residual, tolerance, "residual");
  for (size_t i = 0; i < found.steps.size(); ++i) {
    const auto h = static_cast<int64_t>(i) / r.queries % r.heads;
    EXPECT_EQ(found.converged[i] != 0, found.residual[i] <= r.eps_of(h)) << i;
    // A head goes on as long as it changes by more than eps.
    if (found.residual[i] > r.eps_of(h)) {
      EXPECT_EQ(found.steps[i], r.steps_of(h)) << i;
    }
  }
  return found;
}
Found check(const Retrieval& r) { return check(r, draw(r)); }

class CudaRetrievePerHead : public CudaOfTypes {
 protected:
  /// Heads that stop after different numbers of steps: where they change by less than eps, or after their last step.
  static Retrieval sample() {
    auto r = CudaOfTypes::sample();
    r.per_head = true;
    r.batch = 2;
    r.heads = 4;
    r.steps = 12;
    r.eps_of_heads = {0.05f, 1e-3f, 0.0f, 0.3f};
    r.steps_of_heads = {12, 12, 3, 1};
    r.beta = 0.15;
    return r;
  }
};

TEST_P(CudaRetrievePerHead, HeadsStopOneByOne) {
  const auto r = sample();
  const auto found = check(r);
  const auto of_head = [&](int64_t h) { return found.steps[static_cast<size_t>(h * r.queries)]; };
  EXPECT_GT(of_head(0), 1);
  EXPECT_GT(of_head(1), of_head(0));
  EXPECT_LT(of_head(1), 12);
  EXPECT_EQ(of_head(2), 3);
  EXPECT_EQ(of_head(3), 1);
}

TEST_P(CudaRetrievePerHead, TheSlowestOfTheBatchDecides) {
  auto r = sample();
  r.eps_of_heads = {};
  r.steps_of_heads = {};
  r.eps = 2e-3f;
  auto p = draw(r);
  // With equal patterns the association of a query does not change.
  const auto half = static_cast<int64_t>(p.stored.size()) / 2;
  for (int64_t i = 0; i < half; ++i) p.stored[i] = p.stored[i % p.call.stored.row];
  const auto found = check(r, p);
  EXPECT_GT(found.steps.front(), 1);
  EXPECT_EQ(found.steps.front(), found.steps[found.steps.size() / 2]);
  std::swap_ranges(p.stored.begin(), p.stored.begin() + half, p.stored.begin() + half);
  check(r, p);
}

TEST_P(CudaRetrievePerHead, TilesOfSeveralSamplesAndSamplesOfSeveralTiles) {
  for (const bool all_heads : {false, true}) {
    for (const int64_t queries : {13, 64, 150}) {
      auto r = sample();
      r.queries = queries;
      r.batch = 3;
      r.keys = 20;
      r.depth = 5;
      r.steps = 4;
      r.steps_of_heads = {4, 4, 2, 0};
      r.shared_batch = true;
      r.shared_heads = all_heads;
      check(r);
      if (queries == 13 || !all_heads) continue;
      r.shared_batch = false;
      check(r);
    }
  }
}

TEST_P(CudaRetrievePerHead, FollowsTheFormula) {
  for_retrieve_cases(CudaOfTypes::sample(), [](Retrieval r) {
    if (r.steps == 0) return check(r);
    const auto of_heads = sample();
    r.per_head = true;
    r.eps_of_heads = of_heads.eps_of_heads;
    if (r.heads == 1) {
      r.steps = 2;
      r.steps_of_heads = {2};
      r.eps_of_heads = {1e-4f};
      return check(r);
    }
    r.beta = of_heads.beta;
    r.heads = of_heads.heads;
    r.steps = of_heads.steps;
    r.steps_of_heads = of_heads.steps_of_heads;
    if (r.mask != ScoreMask::Kind::none) {
      r.steps = 5;
      r.steps_of_heads = {5, 5, 3, 0};
    }
    return check(r);
  });
}

TEST_P(CudaRetrievePerHead, RowsThatAreNotNumbersStopNobody) {
  auto r = sample();
  auto p = draw(r);
  p.state[static_cast<size_t>(2 * p.call.state.row)] = std::nan("");
  const auto found = check(r, p);
  EXPECT_GT(found.steps.front(), 1);
}

TEST_P(CudaRetrievePerHead, ComparesWithoutThreshold) {
  auto r = sample();
  r.eps_of_heads = {};
  r.steps_of_heads = {3, 1, 0, 2};
  r.steps = 3;
  check(r);
}

TEST_P(CudaRetrievePerHead, NoStepsAtAll) {
  auto r = sample();
  r.steps_of_heads = {0, 0, 0, 0};
  check(r);
  r.steps = 0;
  check(r);
}

/// The largest error of a residual, as a part of it. Tensor cores cut off the sums that scores and their changes are
/// made of, and a weight is off by as large a part of itself as its score by an amount. An exponential minus 1 is off
/// by up to four times as much as the exponential. A movement of 16-bit patterns is rounded to one number.
/// @param condition  by how much that changes the residual
double error_of_residual(const Retrieval& r, double largest_score, double condition) {
  const bool floats = r.type == ElementType::float32;
  const double products = product_error(r.type, r.plain, floats ? r.depth : 2 * r.depth);
  return 4 * kExp2Error + kRsqrtError + products * (1 + largest_score) + (floats ? 0 : condition * rounding_of(r.type));
}

/// Compares the residuals after a fixed number of steps with those of the last two states on the device. Returns the
/// smallest one.
double check_residuals(const Retrieval& r, double condition) {
  // Of a state that moves in its last bits alone, changes of scores are 1e-5 at most, and off by 1e-5 of themselves.
  constexpr double kOfLastBits = 2e-10;
  const auto p = draw(r);
  const RetrievalOnDevice device(r, p);
  device.forward();
  const auto found = results(r, device);
  const PlainOracle oracle(p);
  std::vector<PlainAssociation> associations[2];
  double largest_score = 0;
  for (int back = 0; back < 2; ++back) {
    const auto states = device.download_states((r.steps - back) % 2);
    for (int64_t row = 0; row < r.rows(); ++row) {
      const auto* state = &states[static_cast<size_t>(row * r.depth)];
      associations[back].push_back(oracle.associate(row, {state, state + r.depth}, false));
      largest_score = std::max(largest_score, associations[back].back().largest);
    }
  }
  const auto reference = oracle.changes(associations[0], associations[1]);
  const double tolerance = error_of_residual(r, largest_score, condition);
  double smallest = kInfinity;
  for (int64_t row = 0; row < r.rows(); ++row) {
    if (found.steps[row] < r.steps) continue;  // it stopped before, since it stood still to the last bit
    const double of_head = reference[static_cast<size_t>(row / r.queries % r.heads)];
    smallest = std::min(smallest, of_head);
    EXPECT_NEAR(found.residual[row], of_head, tolerance * of_head + kOfLastBits)
        << "row " << row << " after step " << r.steps;
  }
  return smallest;
}

TEST_P(CudaRetrievePerHead, ResidualsHaveTheirDigits) {
  double smallest = 1;
  for (int64_t steps = 1; steps < 9; ++steps) {
    auto r = sample();
    r.steps_of_heads = {};
    r.eps_of_heads = {};
    r.eps = 1e-9f;
    r.keys = steps % 2 == 0 ? 300 : 40;
    r.steps = steps;
    r.beta = 0.2;
    smallest = std::min(smallest, check_residuals(r, 1));
    // Nearly all weight is on one pattern, and changes of scores, like beta sqrt(depth), are about 15 times as large.
    r.beta = 2.0;
    r.depth = 24;
    check_residuals(r, 15);
  }
  EXPECT_LT(smallest, 1e-5);
}

TEST_P(CudaRetrievePerHead, TheSameBitsInTheSameMemory) {
  auto r = sample();
  r.queries = 150;
  r.keys = 20;
  r.steps = 4;
  r.steps_of_heads = {4, 4, 2, 0};
  const RetrievalOnDevice device(r, draw(r));
  device.forward();
  const auto first = results(r, device);
  device.forward();
  const auto second = results(r, device);
  EXPECT_EQ(first.output, second.output);
  EXPECT_EQ(first.state, second.state);
  EXPECT_EQ(first.steps, second.steps);
  EXPECT_EQ(first.converged, second.converged);
  for (size_t i = 0; i < first.residual.size(); ++i) {
    if (!std::isnan(first.residual[i])) {
      EXPECT_EQ(first.residual[i], second.residual[i]) << i;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Types, CudaRetrievePerHead, all_types());

}  // namespace
}  // namespace hopfield::kernels::cuda
