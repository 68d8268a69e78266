#pragma once

// What a kernel of retrieval's forward pass has written, and its comparison with the formula.

#include "retrieve_case.h"

namespace hopfield::kernels::cuda {

/// The largest scores are in units of log 2, as they are saved.
inline PlainResult results(const Retrieval& r, const RetrievalOnDevice& device) {
  const auto& out = device.out;
  const auto rows = device.rows(), depth = static_cast<size_t>(r.depth), steps = static_cast<size_t>(r.steps);
  PlainResult found;
  found.output = device.download(out.output, r.value_width());
  found.state = device.download_states();
  found.logsumexp = device.download_floats(out.logsumexp, rows);
  found.residual = device.download_floats(out.residual, rows);
  if (out.scores != nullptr) found.scores = device.download_floats(out.scores, device.scores_size());
  found.steps = device.download(out.steps, rows);
  const auto converged = device.download_converged();
  for (size_t i = 0; i < rows; ++i) EXPECT_EQ(converged[i], found.residual[i] <= r.eps ? 1 : 0) << i;
  const auto sums = device.download_floats(out.saved.sums, 2 * (steps + 1) * rows);
  for (size_t i = 0; i < sums.size(); i += 2) {
    found.largest_scores.push_back(sums[i]);
    found.exponential_sums.push_back(sums[i + 1]);
  }
  const auto row = static_cast<size_t>(retrieve_saved_row(device.call)), saved_size = steps * rows * row;
  const auto* errors = out.saved.rounding_error;
  const auto saved = device.download_typed(out.saved.states, saved_size),
             rounding_error = errors != nullptr ? device.download_typed(errors, saved_size) : saved;
  for (size_t i = 0; i < steps * rows * depth; ++i) found.saved_states.push_back(saved[i / depth * row + i % depth]);
  // What is written in the call's type is the same, rounded. What is saved is what was found.
  const auto typed = device.download(out.state, r.depth);
  for (size_t i = 0; i < typed.size(); ++i) {
    EXPECT_EQ(typed[i], rounded(static_cast<float>(found.state[i]), r.type)) << i;
    if (steps == 0) continue;
    const auto at = ((steps - 1) * rows + i / depth) * row + i % depth;
    EXPECT_EQ(saved[at], typed[i]) << i;
    if (errors != nullptr) {
      EXPECT_EQ(rounding_error[at], rounded(static_cast<float>(found.state[i] - saved[at]), r.type)) << i;
    }
  }
  return found;
}

/// A query goes on as long as it moves by more than eps.
inline void expect_steps_by_the_rule(const Retrieval& r, const PlainResult& found) {
  for (size_t i = 0; i < found.steps.size(); ++i) {
    const bool moves = found.residual[i] > r.eps;
    EXPECT_TRUE(!moves || found.steps[i] == r.steps_of(static_cast<int64_t>(i) / r.queries % r.heads)) << i;
  }
}

/// Runs `forward` on the call on the device.
template <class Forward>
void check_forward(const Retrieval& r, const Forward& forward) {
  const auto patterns = draw(r);
  RetrievalOnDevice device(r, patterns);
  forward(device);
  const auto found = results(r, device);
  const PlainOracle oracle(patterns);
  const double tolerance = tolerance_of(r.type);
  // With 16-bit numbers, the step at which a threshold is met depends on the last bits.
  const bool follows = r.eps > 0 && r.type != ElementType::float32;
  auto reference = oracle.forward(/*rounds_states=*/r.eps == 0, follows ? found.steps : std::vector<int64_t>());
  for (auto& score : reference.largest_scores) score /= std::log(2.0);
  if (r.eps > 0) expect_steps_by_the_rule(r, found);
  if (r.eps > 0 && !follows) {
    EXPECT_TRUE(oracle.decides_clearly(tolerance));
  }
  EXPECT_EQ(found.steps, reference.steps);
  expect_near(found.output, reference.output, tolerance, "output");
  expect_near(found.state, reference.state, tolerance, "state");
  expect_near(found.logsumexp, reference.logsumexp, tolerance, "logsumexp");
  if (device.out.scores != nullptr) expect_near(found.scores, reference.scores, 2 * tolerance, "scores");
  expect_near(found.residual, reference.residual, tolerance, "residual");
  if (r.eps > 0) return;
  expect_near(found.saved_states, reference.saved_states, tolerance, "saved states");
  expect_near(found.largest_scores, reference.largest_scores, 2 * tolerance, "largest scores");
  expect_near(found.exponential_sums, reference.exponential_sums, 2 * tolerance, "sums");
}

}  // namespace hopfield::kernels::cuda
