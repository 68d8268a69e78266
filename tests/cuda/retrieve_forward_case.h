#pragma once

// Retrieval by the formula in float64, and what a kernel makes of it.

#include "retrieve_case.h"

namespace hopfield::kernels::cuda {

struct Found {
  std::vector<double> output, state, logsumexp, residual, scores;
  std::vector<double> saved_states;  ///< [T, rows, depth]
  std::vector<double> largest,
      sums;  ///< [T + 1, rows]: of the scores times log2 e, of exponentials; NaN where none was
  std::vector<int64_t> steps;
};

/// Products see a state as the type has it.
inline Found formula(const Retrieval& r, const Patterns& p) {
  Found found;
  found.scores.assign(static_cast<size_t>(r.heads * r.queries * (r.bags.empty() ? r.batch : 1) * r.all_keys()), 0.0);
  const auto associations = static_cast<size_t>((r.steps + 1) * r.rows());
  found.saved_states.assign(static_cast<size_t>(r.steps * r.rows() * r.depth), 0.0);
  found.largest.assign(associations, std::nan(""));
  found.sums.assign(associations, std::nan(""));
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
      if (last || (!frozen && step < r.steps_of(h))) {
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
          scores[i] = bias == -kInfinity ? bias : r.beta_of(h) * score + bias;
          largest = std::max(largest, scores[i]);
          if (last) {
            const auto at = r.bags.empty() ? row * r.keys + i : ((first + i) * r.heads + h) * r.queries + l;
            found.scores[at] = scores[i];
          }
        }
        for (const auto score : scores) sum += score == -kInfinity ? 0.0 : std::exp(score - largest);
        found.largest[step * r.rows() + row] = largest / std::log(2.0);
        found.sums[step * r.rows() + row] = sum;
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
        if (!frozen) {
          for (int64_t k = 0; k < r.depth; ++k) residual += (mean[k] - xi[k]) * (mean[k] - xi[k]);
          residual = std::sqrt(residual);
          xi = mean;
          ++steps;
          frozen = r.eps > 0 && residual <= r.eps;
        }
      }
      std::copy(xi.begin(), xi.end(), found.saved_states.begin() + (step * r.rows() + row) * r.depth);
    }
    found.output.insert(found.output.end(), mean.begin(), mean.end());
    found.state.insert(found.state.end(), xi.begin(), xi.end());
    found.logsumexp.push_back(lse);
    found.residual.push_back(lse == -kInfinity ? 0.0 : residual);
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
