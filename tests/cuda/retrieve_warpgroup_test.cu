// Retrieval by warpgroup products against the formula in float64.

#include "../support/cuda_on_host/numbers.h"  // conversions in plain C++
#include "warpgroup_case.h"

#include <kernels/cuda/numbers.h>
#include <kernels/cuda/retrieve_warpgroup.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace hopfield::kernels::cuda {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
const float kNan = std::numeric_limits<float>::quiet_NaN();

/// A call in host memory. Patterns are [batch or 1, keys, heads or 1, width], so that a head's rows are not contiguous.
struct Retrieval {
  int64_t batch = 1, heads = 1, queries = 130, keys = 70, depth = 64, width = 0;  ///< width 0: no values of their own
  std::vector<int64_t> steps{2};                                                  ///< of each head
  std::vector<float> beta{0.125f};
  bool shared_batch = false, shared_heads = false;
  float offset = 0.0f;  ///< added to the stored patterns: -inf for scores that exclude all

  int64_t rows() const { return batch * heads * queries; }
  int64_t value_width() const { return width > 0 ? width : depth; }
  int64_t own_heads() const { return shared_heads ? 1 : heads; }
  int64_t sets() const { return (shared_batch ? 1 : batch) * own_heads(); }
  int64_t most_steps() const { return *std::max_element(steps.begin(), steps.end()); }
  template <class T>
  T of_head(const std::vector<T>& values, int64_t head) const {
    return values[static_cast<size_t>(head) % values.size()];
  }
  size_t pattern(int64_t row, int64_t key, int64_t pitch) const {
    const int64_t n = shared_batch ? 0 : row / (heads * queries), h = shared_heads ? 0 : row / queries % heads;
    return static_cast<size_t>(((n * keys + key) * own_heads() + h) * pitch);
  }
};

/// 8 numbers behind each row belong to somebody else.
int64_t pitch(int64_t width) { return width + 8; }

struct Patterns {
  std::vector<float> state, stored, values;
};

float rounded(float value) { return cuda_on_host::float_of_bfloat16(cuda_on_host::bfloat16_bits(value)); }

std::vector<float> draw_rows(int64_t rows, int64_t width, int64_t row_pitch, uint32_t seed) {
  const auto numbers = random_floats(static_cast<size_t>(rows * width), seed);
  std::vector<float> values(static_cast<size_t>(rows * row_pitch), kNan);
  for (int64_t i = 0; i < rows * width; ++i) {
    values[static_cast<size_t>(i / width * row_pitch + i % width)] = rounded(numbers[static_cast<size_t>(i)]);
  }
  return values;
}

Patterns draw(const Retrieval& r) {
  Patterns p;
  p.state = draw_rows(r.rows(), r.depth, r.depth, 1);
  p.stored = draw_rows(r.sets() * r.keys, r.depth, pitch(r.depth), 2);
  if (r.width > 0) p.values = draw_rows(r.sets() * r.keys, r.width, pitch(r.width), 3);
  for (auto& value : p.stored) value += r.offset;
  return p;
}

/// What a call gives, row by row.
struct Found {
  std::vector<double> output, states, logsumexp, residual;
  std::vector<double> saved_states, largest, sums;  ///< [steps, rows, ..]
  std::vector<int64_t> steps;
};

/// Products see a state as the type has it.
Found formula(const Retrieval& r, const Patterns& p) {
  Found found;
  const auto rows = static_cast<size_t>(r.rows()), depth = static_cast<size_t>(r.depth);
  const auto most = static_cast<size_t>(r.most_steps());
  found.saved_states.assign(most * rows * depth, 0.0);
  found.largest.assign((most + 1) * rows, kNan);
  found.sums.assign((most + 1) * rows, kNan);
  for (int64_t row = 0; row < r.rows(); ++row) {
    const auto at = static_cast<size_t>(row);
    const int64_t head = row / r.queries % r.heads;
    const double beta = r.of_head(r.beta, head);
    std::vector<double> xi(p.state.begin() + row * r.depth, p.state.begin() + (row + 1) * r.depth);
    double residual = std::nan("");
    for (int64_t step = 0; step <= r.most_steps(); ++step) {
      const bool last = step == r.most_steps(), active = step < r.of_head(r.steps, head);
      const auto saved = static_cast<size_t>(step) * rows + at;
      if (!active && !last) {
        std::copy(xi.begin(), xi.end(), found.saved_states.begin() + static_cast<std::ptrdiff_t>(saved * depth));
        continue;
      }
      std::vector<double> weights(static_cast<size_t>(r.keys));
      double largest = -kInfinity, sum = 0.0;
      for (int64_t key = 0; key < r.keys; ++key) {
        double score = 0.0;
        for (size_t k = 0; k < depth; ++k) {
          score += rounded(static_cast<float>(xi[k])) * p.stored[r.pattern(row, key, pitch(r.depth)) + k];
        }
        weights[static_cast<size_t>(key)] = beta * score;
        largest = std::max(largest, beta * score);
      }
      for (auto& weight : weights) sum += weight = std::exp(weight - largest);
      const bool values = last && r.width > 0;
      const int64_t width = values ? r.width : r.depth;
      std::vector<double> mean(static_cast<size_t>(width), 0.0);
      for (int64_t key = 0; key < r.keys; ++key) {
        const auto first = r.pattern(row, key, pitch(width));
        for (size_t k = 0; k < mean.size(); ++k) {
          mean[k] += weights[static_cast<size_t>(key)] / sum * (values ? p.values : p.stored)[first + k];
        }
      }
      found.largest[saved] = largest / std::log(2.0);
      found.sums[saved] = sum;
      if (last) {
        found.output.insert(found.output.end(), mean.begin(), mean.end());
        found.logsumexp.push_back(largest + std::log(sum));
        break;
      }
      residual = 0.0;
      for (size_t k = 0; k < depth; ++k) residual += (mean[k] - xi[k]) * (mean[k] - xi[k]);
      residual = std::sqrt(residual);
      xi = mean;
      std::copy(xi.begin(), xi.end(), found.saved_states.begin() + static_cast<std::ptrdiff_t>(saved * depth));
    }
    found.states.insert(found.states.end(), xi.begin(), xi.end());
    found.residual.push_back(residual);
    found.steps.push_back(r.of_head(r.steps, head));
  }
  return found;
}

DeviceArray<bfloat16_t> on_device(const std::vector<float>& values) {
  std::vector<bfloat16_t> numbers(values.size());
  std::transform(values.begin(), values.end(), numbers.begin(),
                 [](float value) { return bfloat16_t{cuda_on_host::bfloat16_bits(value)}; });
  return DeviceArray<bfloat16_t>(numbers);
}

std::vector<double> doubles(const DeviceArray<float>& array) {
  const auto floats = array.download();
  return {floats.begin(), floats.end()};
}

std::vector<double> doubles(const DeviceArray<bfloat16_t>& array) {
  std::vector<double> values;
  for (const auto number : array.download()) values.push_back(cuda_on_host::float_of_bfloat16(number.bits));
  return values;
}

/// What is written in the type is what is written in float32, rounded.
void expect_rounded(const DeviceArray<bfloat16_t>& typed, const std::vector<double>& exact, const char* name) {
  const auto found = typed.download();
  ASSERT_EQ(found.size(), exact.size());
  for (size_t i = 0; i < found.size(); ++i) {
    ASSERT_EQ(cuda_on_host::float_of_bfloat16(found[i].bits), rounded(static_cast<float>(exact[i])))
        << name << " " << i;
  }
}

RetrieveCall call_of(const Retrieval& r) {
  RetrieveCall call;
  call.batch = r.batch, call.heads = r.heads, call.queries = r.queries, call.keys = r.keys;
  call.depth = r.depth, call.width = r.value_width();
  call.most_steps = r.most_steps();
  call.type = ElementType::bfloat16;
  return call;
}

Found run(const Retrieval& r, const Patterns& p) {
  const auto rows = static_cast<size_t>(r.rows()), steps = static_cast<size_t>(r.most_steps());
  const auto depth = static_cast<size_t>(r.depth), width = static_cast<size_t>(r.value_width());
  const auto strided = [&](const DeviceArray<bfloat16_t>& array, int64_t row) {
    Strided s{array.data(), 0, 0, r.own_heads() * row};
    if (!r.shared_heads) s.head = row;
    if (!r.shared_batch) s.batch = r.keys * r.own_heads() * row;
    return s;
  };
  const auto state = on_device(p.state), stored = on_device(p.stored), values = on_device(p.values);
  std::vector<int64_t> steps_of_heads;
  std::vector<float> beta_of_heads;
  for (int64_t head = 0; head < r.heads; ++head) {
    steps_of_heads.push_back(r.of_head(r.steps, head));
    beta_of_heads.push_back(r.of_head(r.beta, head));
  }
  const DeviceArray<int64_t> steps_max(steps_of_heads), steps_done(rows, -1);
  const DeviceArray<float> beta(beta_of_heads), eps(static_cast<size_t>(r.heads), 0.0f);
  const auto saved_row = static_cast<size_t>(retrieve_saved_row(call_of(r)));
  const DeviceArray<bfloat16_t> output(rows * width, {0x7FFF}), final_state(rows * depth, {0x7FFF}),
      saved_states(steps * rows * saved_row, {0x7FFF});
  const DeviceArray<float> logsumexp(rows, kNan), residual(rows, kNan), states(rows * depth, kNan),
      saved_sums(2 * (steps + 1) * rows, kNan);
  const DeviceArray<uint8_t> converged(rows, 7);
  auto call = call_of(r);
  call.state = {state.data(), r.heads * r.queries * r.depth, r.queries * r.depth, r.depth};
  call.stored = strided(stored, pitch(r.depth));
  if (r.width > 0) call.values = strided(values, pitch(r.width));
  call.beta = beta.data(), call.steps_max = steps_max.data(), call.eps = eps.data();
  RetrieveOutputs out{};
  out.output = output.data(), out.state = final_state.data();
  out.logsumexp = logsumexp.data(), out.residual = residual.data(), out.states = states.data();
  out.steps = steps_done.data(), out.converged = converged.data();
  out.saved.states = saved_states.data(), out.saved.sums = saved_sums.data();
  auto error = retrieve_warpgroup_reason_against(call, out);
  if (error.empty()) error = retrieve_warpgroup_forward(call, out, nullptr);
  if (!error.empty()) throw std::runtime_error(error);
  Found found;
  found.output = doubles(output);
  found.states = doubles(states);
  found.logsumexp = doubles(logsumexp);
  found.residual = doubles(residual);
  found.saved_states = doubles(saved_states);
  const auto sums = doubles(saved_sums);
  for (size_t i = 0; i < sums.size(); i += 2) found.largest.push_back(sums[i]), found.sums.push_back(sums[i + 1]);
  found.steps = steps_done.download();
  expect_rounded(final_state, found.states, "state");
  const auto flags = converged.download();
  for (size_t i = 0; i < flags.size(); ++i) EXPECT_EQ(flags[i], found.residual[i] <= 0.0 ? 1 : 0) << i;
  return found;
}

void expect_near(const std::vector<double>& found, const std::vector<double>& reference, const char* name) {
  // Weights are rounded to the type once, states once for each step.
  constexpr double kTolerance = 2e-2;
  ASSERT_EQ(found.size(), reference.size()) << name;
  for (size_t i = 0; i < found.size(); ++i) {
    if (std::isfinite(reference[i])) {
      ASSERT_NEAR(found[i], reference[i], kTolerance * std::max(1.0, std::abs(reference[i]))) << name << " " << i;
    } else {
      ASSERT_TRUE(std::isnan(reference[i]) ? std::isnan(found[i]) : found[i] == reference[i]) << name << " " << i;
    }
  }
}

void check(const Retrieval& r) {
  const auto patterns = draw(r);
  const auto reference = formula(r, patterns), found = run(r, patterns);
  expect_near(found.output, reference.output, "output");
  expect_near(found.states, reference.states, "states");
  expect_near(found.logsumexp, reference.logsumexp, "logsumexp");
  expect_near(found.residual, reference.residual, "residual");
  expect_near(found.saved_states, reference.saved_states, "saved states");
  expect_near(found.largest, reference.largest, "largest scores");
  expect_near(found.sums, reference.sums, "sums");
  EXPECT_EQ(found.steps, reference.steps);
}

using CudaRetrieveWarpgroup = CudaWarpgroup;

TEST_F(CudaRetrieveWarpgroup, SelfAssociation) {
  Retrieval r;
  check(r);
  r.queries = 5;
  r.keys = 128;  // whole tiles
  r.depth = 128;
  r.beta = {0.08f};
  check(r);
}

TEST_F(CudaRetrieveWarpgroup, MoreTilesThanTheRingHasStages) {
  Retrieval r;
  r.queries = 3;
  r.keys = 600;
  r.depth = 72;
  check(r);
}

TEST_F(CudaRetrieveWarpgroup, ValuesAreReadOut) {
  Retrieval r;
  r.queries = 9;
  r.keys = 300;
  r.steps = {1};
  r.width = 24;
  check(r);
  r.depth = 16;
  r.width = 128;
  r.keys = 200;
  check(r);
}

TEST_F(CudaRetrieveWarpgroup, OneAssociation) {
  Retrieval r;
  r.queries = 70;
  r.steps = {0};
  r.keys = 1;
  check(r);
  r.keys = 129;
  r.width = 72;
  check(r);
}

TEST_F(CudaRetrieveWarpgroup, PatternsSharedByBatchAndHeads) {
  for (const bool batch : {false, true}) {
    for (const bool heads : {false, true}) {
      Retrieval r;
      r.batch = 2;
      r.heads = 3;
      r.queries = 7;
      r.depth = 32;
      r.width = 40;
      r.steps = {1};
      r.shared_batch = batch;
      r.shared_heads = heads;
      check(r);
    }
  }
}

TEST_F(CudaRetrieveWarpgroup, HeadsHaveTheirOwnStepsAndBeta) {
  Retrieval r;
  r.heads = 4;
  r.queries = 6;
  r.keys = 140;
  r.steps = {0, 1, 2, 3};
  r.beta = {0.1f, -0.2f, 0.0f, 0.15f};
  r.shared_heads = true;
  check(r);
}

TEST_F(CudaRetrieveWarpgroup, LargeScoresStayFinite) {
  Retrieval r;
  r.queries = 4;
  r.keys = 260;
  r.beta = {30.0f};
  check(r);
}

TEST_F(CudaRetrieveWarpgroup, RowsWithNothingToAttendToStayWhereTheyAre) {
  Retrieval r;
  r.queries = 2;
  r.depth = 8;
  r.steps = {3};
  r.offset = -std::numeric_limits<float>::infinity();
  auto patterns = draw(r);
  for (auto& value : patterns.state) value = std::abs(value);
  const auto found = run(r, patterns);
  for (const auto value : found.output) EXPECT_EQ(value, 0.0);
  for (const auto value : found.logsumexp) EXPECT_EQ(value, -kInfinity);
  for (const auto value : found.residual) EXPECT_EQ(value, 0.0);
  for (const auto steps : found.steps) EXPECT_EQ(steps, 0);
  EXPECT_EQ(found.states, std::vector<double>(patterns.state.begin(), patterns.state.end()));
  for (size_t i = 0; i < found.saved_states.size(); ++i) {
    EXPECT_EQ(found.saved_states[i], patterns.state[i % patterns.state.size()]);
  }
}

TEST_F(CudaRetrieveWarpgroup, GivesAQueryTheSameBitsInAnyBatch) {
  Retrieval r;
  r.batch = 3;
  r.queries = 50;
  r.keys = 150;
  r.depth = 16;
  r.shared_batch = true;
  const auto patterns = draw(r);
  const auto together = run(r, patterns);
  auto alone = r;
  alone.batch = 1;
  auto part = patterns;
  const auto size = r.queries * r.depth;
  part.state.assign(patterns.state.begin() + 2 * size, patterns.state.begin() + 3 * size);
  const auto found = run(alone, part);
  EXPECT_TRUE(std::equal(found.output.begin(), found.output.end(), together.output.begin() + 2 * size));
}

TEST_F(CudaRetrieveWarpgroup, WhatItDoesNotServeHasAReason) {
  const auto reason = [](auto change) {
    auto call = call_of({});
    RetrieveOutputs out{};
    call.state.row = call.stored.row = 64;
    change(call, out);
    return retrieve_warpgroup_reason_against(call, out);
  };
  float number = 0;
  EXPECT_EQ(reason([](auto&, auto&) {}), "");
  EXPECT_NE(reason([](auto& call, auto&) { call.type = ElementType::float16; }), "");
  EXPECT_NE(reason([](auto& call, auto&) { call.depth = 136; }), "");
  EXPECT_NE(reason([](auto& call, auto&) { call.depth = 12; }), "");
  EXPECT_NE(reason([](auto& call, auto&) { call.depth = call.width = 0; }), "");
  EXPECT_NE(reason([](auto& call, auto&) { call.width = 20; }), "");
  EXPECT_NE(reason([](auto& call, auto&) { call.exact_states = true; }), "");
  EXPECT_NE(reason([&](auto& call, auto&) { call.key_bias = &number; }), "");
  EXPECT_NE(reason([](auto& call, auto&) { call.mask.kind = ScoreMask::Kind::boolean; }), "");
  EXPECT_NE(reason([](auto& call, auto&) { call.dropout = 0.1f; }), "");
  EXPECT_NE(reason([&](auto&, auto& out) { out.scores = &number; }), "");
  EXPECT_NE(reason([](auto& call, auto&) { call.keys = 0; }), "");
  EXPECT_NE(reason([](auto& call, auto&) { call.stored.row = 12; }), "");
  EXPECT_NE(reason([](auto& call, auto&) { call.state.row = 12; }), "");
}

}  // namespace
}  // namespace hopfield::kernels::cuda
