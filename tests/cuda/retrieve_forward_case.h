#pragma once

// Retrieval by the formula in float64, and what a kernel makes of it.

#include "retrieve_case.h"

namespace hopfield::kernels::cuda {

struct Found {
  std::vector<double> output, state, logsumexp, residual, scores;
  std::vector<double> saved_states;  ///< [T, rows, depth]
  std::vector<double> largest;       ///< score times log2 e [T + 1, rows]; NaN where there was no association
  std::vector<double> sums;          ///< of exponentials, likewise
  std::vector<int64_t> steps;
};

/// Products see a state as the type has it.
inline Found formula(const Retrieval& r, const Patterns& p) {
  Found found;
  found.scores.assign(static_cast<size_t>(r.heads * r.queries * (r.bags.empty() ? r.batch : 1) * r.all_keys()), 0.0);
  found.saved_states.assign(static_cast<size_t>(r.steps * r.rows() * r.depth), 0.0);
  found.largest.assign(static_cast<size_t>((r.steps + 1) * r.rows()), std::nan(""));
  found.sums = found.largest;
  for (int64_t row = 0; row < r.rows(); ++row) {
    const int64_t n = row / (r.heads * r.queries), h = row / r.queries % r.heads, l = row % r.queries;
    std::vector<double> xi(static_cast<size_t>(r.depth));
    for (int64_t k = 0; k < r.depth; ++k) xi[k] = p.state[row * r.depth + k];
    const auto note = [&](int64_t step, bool last) {
      auto query = xi;
      if (r.eps == 0) {
        for (auto& value : query) value = rounded(static_cast<float>(value), r.type);
      }
      auto a = associate(r, p, row, query, last);
      double largest = -kInfinity;
      for (const auto score : a.scores) largest = std::max(largest, score);
      found.largest[step * r.rows() + row] = largest / std::log(2.0);
      found.sums[step * r.rows() + row] = largest == -kInfinity ? 0.0 : std::exp(a.logsumexp - largest);
      return a;
    };
    double residual = std::nan("");
    int64_t steps = 0;
    bool frozen = false;
    for (int64_t step = 0; step < r.steps; ++step) {
      if (!frozen && step < r.steps_of(h)) {
        const auto a = note(step, false);
        frozen = a.logsumexp == -kInfinity;
        residual = 0;
        if (!frozen) {
          for (int64_t k = 0; k < r.depth; ++k) residual += (a.read[k] - xi[k]) * (a.read[k] - xi[k]);
          residual = std::sqrt(residual);
          xi = a.read;
          ++steps;
          frozen = r.eps > 0 && residual <= r.eps;
        }
      }
      std::copy(xi.begin(), xi.end(), found.saved_states.begin() + (step * r.rows() + row) * r.depth);
    }
    const auto a = note(r.steps, true);
    const auto first = r.range(n).first;
    for (size_t i = 0; i < a.scores.size(); ++i) {
      const auto key = static_cast<int64_t>(i);
      found.scores[r.bags.empty() ? row * r.keys + key : ((first + key) * r.heads + h) * r.queries + l] = a.scores[i];
    }
    found.output.insert(found.output.end(), a.read.begin(), a.read.end());
    found.state.insert(found.state.end(), xi.begin(), xi.end());
    found.logsumexp.push_back(a.logsumexp);
    found.residual.push_back(a.logsumexp == -kInfinity ? 0.0 : residual);
    found.steps.push_back(steps);
  }
  return found;
}

/// What a kernel has written.
inline Found results(const Retrieval& r, const RetrievalOnDevice& device) {
  const auto& out = device.out;
  const auto rows = device.rows(), depth = static_cast<size_t>(r.depth), steps = static_cast<size_t>(r.steps);
  Found found;
  found.output = device.download_typed(out.output, rows * static_cast<size_t>(r.value_width()));
  found.state = device.download_floats(out.states, rows * depth);
  found.logsumexp = device.download_floats(out.logsumexp, rows);
  found.residual = device.download_floats(out.residual, rows);
  if (out.scores != nullptr) found.scores = device.download_floats(out.scores, device.scores_size());
  found.steps = device.download(out.steps, rows);
  const auto converged = device.download(out.converged, rows);
  for (size_t i = 0; i < rows; ++i) EXPECT_EQ(converged[i], found.residual[i] <= r.eps ? 1 : 0) << i;
  const auto sums = device.download_floats(out.saved.sums, 2 * (steps + 1) * rows);
  for (size_t i = 0; i < sums.size(); i += 2) {
    found.largest.push_back(sums[i]);
    found.sums.push_back(sums[i + 1]);
  }
  const auto row = static_cast<size_t>(retrieve_saved_row(device.call)), saved_size = steps * rows * row;
  const auto saved = device.download_typed(out.saved.states, saved_size),
             rest = out.saved.rest != nullptr ? device.download_typed(out.saved.rest, saved_size) : saved;
  for (size_t i = 0; i < steps * rows * depth; ++i) found.saved_states.push_back(saved[i / depth * row + i % depth]);
  // What is written in the type is the same, rounded; what is saved is what was found.
  const auto typed = device.download_typed(out.state, rows * depth);
  for (size_t i = 0; i < typed.size(); ++i) {
    EXPECT_EQ(typed[i], rounded(static_cast<float>(found.state[i]), r.type)) << i;
    if (steps == 0) continue;
    const auto at = ((steps - 1) * rows + i / depth) * row + i % depth;
    EXPECT_EQ(saved[at], typed[i]) << i;
    if (out.saved.rest != nullptr) {
      EXPECT_EQ(rest[at], rounded(static_cast<float>(found.state[i] - saved[at]), r.type)) << i;
    }
  }
  return found;
}

/// Runs `forward` on the call on the device.
template <class Forward>
void check_forward(const Retrieval& r, const Forward& forward) {
  const auto patterns = draw(r);
  RetrievalOnDevice device(r, patterns);
  forward(device);
  const auto reference = formula(r, patterns), found = results(r, device);
  // Weights are rounded to the type once, states once for each step.
  const double tolerance = r.type == ElementType::bfloat16 ? 2e-2 : r.type == ElementType::float16 ? 3e-3 : 2e-5;
  expect_near(found.output, reference.output, tolerance, "output");
  expect_near(found.state, reference.state, tolerance, "state");
  expect_near(found.logsumexp, reference.logsumexp, tolerance, "logsumexp");
  if (device.out.scores != nullptr) expect_near(found.scores, reference.scores, 2 * tolerance, "scores");
  expect_near(found.residual, reference.residual, tolerance, "residual");
  if (r.eps > 0) return;  // it may take a step more or less
  EXPECT_EQ(found.steps, reference.steps);
  expect_near(found.saved_states, reference.saved_states, tolerance, "saved states");
  expect_near(found.largest, reference.largest, 2 * tolerance, "largest scores");
  expect_near(found.sums, reference.sums, 2 * tolerance, "sums");
}

}  // namespace hopfield::kernels::cuda
