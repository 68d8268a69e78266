// Pooling against the formula in float64.

#include "harness.h"

#include <kernels/cuda/numbers.h>
#include <kernels/cuda/pool.h>
#include <kernels/philox.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace hopfield::kernels::cuda {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// A call in host memory.
struct Sample {
  std::vector<int64_t> bags;  ///< sizes
  int64_t heads = 2, queries = 3, depth = 8, width = 40, steps = 2;
  PoolType type = PoolType::float32;
  bool normalize = true, bias = true, key_bias = false;
  float shift = 0.0f, beta = 0.5f, eps = 0.0f, dropout = 0.0f;
  uint32_t seed = 1;

  int64_t total() const {
    int64_t sum = 0;
    for (const auto size : bags) sum += size;
    return sum;
  }
};

struct Data {
  std::vector<float> instances, weight, bias, key_bias, state;
};

float rounded(float value, PoolType type) {
  if (type == PoolType::bfloat16) return to_float(from_float<bfloat16_t>(value));
  return type == PoolType::float16 ? to_float(from_float<float16_t>(value)) : value;
}

Data draw(const Sample& s) {
  Data d;
  d.instances = random_floats(static_cast<size_t>(s.total() * s.width), s.seed);
  for (auto& value : d.instances) value = rounded(value + s.shift, s.type);
  d.weight = random_floats(static_cast<size_t>(s.heads * s.depth * s.width), s.seed + 1);
  for (auto& value : d.weight) value /= std::sqrt(static_cast<float>(s.width));
  if (s.bias) d.bias = random_floats(static_cast<size_t>(s.heads * s.depth), s.seed + 2);
  if (s.key_bias) {
    d.key_bias = random_floats(static_cast<size_t>(s.total()), s.seed + 3);
    for (size_t i = 0; i < d.key_bias.size(); i += 3) {
      d.key_bias[i] = -std::numeric_limits<float>::infinity();
      for (int64_t k = 0; k < s.width; ++k) d.instances[i * s.width + k] = std::numeric_limits<float>::quiet_NaN();
    }
  }
  d.state = random_floats(static_cast<size_t>(s.heads * s.queries * s.depth), s.seed + 4);  // shared by the bags
  return d;
}

struct Results {
  std::vector<double> output, state, logsumexp, mass, residual, scores;
  std::vector<int64_t> steps;
};

constexpr uint64_t kSeed = 0x123456789ABCDEFull;

Results expected(const Sample& s, const Data& d) {
  Results r;
  r.scores.assign(static_cast<size_t>(s.total() * s.heads * s.queries), 0.0);
  int64_t first = 0;
  for (size_t n = 0; n < s.bags.size(); ++n) {
    const auto size = s.bags[n];
    std::vector<double> y(static_cast<size_t>(size * s.width));
    for (int64_t i = 0; i < size; ++i) {
      const float* from = &d.instances[static_cast<size_t>((first + i) * s.width)];
      double mean = 0, variance = 0;
      for (int64_t k = 0; k < s.width; ++k) mean += from[k] / static_cast<double>(s.width);
      for (int64_t k = 0; k < s.width; ++k)
        variance += (from[k] - mean) * (from[k] - mean) / static_cast<double>(s.width);
      for (int64_t k = 0; k < s.width; ++k) {
        y[i * s.width + k] = s.normalize ? (from[k] - mean) / std::sqrt(variance + 1e-5) : from[k];
      }
    }
    for (int64_t h = 0; h < s.heads; ++h) {
      for (int64_t l = 0; l < s.queries; ++l) {
        std::vector<double> xi(static_cast<size_t>(s.depth)), a(static_cast<size_t>(s.width)), mean(a.size());
        for (int64_t j = 0; j < s.depth; ++j) xi[j] = d.state[(h * s.queries + l) * s.depth + j];
        double residual = std::nan(""), lse = -kInfinity, mass = 0;
        int64_t steps = 0;
        bool frozen = false;
        for (int64_t step = 0; step <= s.steps; ++step) {
          const bool last = step == s.steps;
          if (frozen && !last) continue;
          std::fill(a.begin(), a.end(), 0.0);
          for (int64_t j = 0; j < s.depth; ++j) {
            for (int64_t k = 0; k < s.width; ++k) a[k] += d.weight[(h * s.depth + j) * s.width + k] * xi[j];
          }
          std::vector<double> p(static_cast<size_t>(size));
          double largest = -kInfinity, sum = 0;
          for (int64_t i = 0; i < size; ++i) {
            const double bias = s.key_bias ? d.key_bias[first + i] : 0.0;
            double score = -kInfinity;
            if (bias != -kInfinity) {
              score = 0;
              for (int64_t k = 0; k < s.width; ++k) score += a[k] * y[i * s.width + k];
              score = s.beta * score + bias;
            }
            if (last) r.scores[((first + i) * s.heads + h) * s.queries + l] = score;
            p[i] = score;
            largest = std::max(largest, score);
          }
          for (auto& value : p) sum += value == -kInfinity ? 0.0 : std::exp(value - largest);
          std::fill(mean.begin(), mean.end(), 0.0);
          mass = 0;
          lse = largest == -kInfinity ? -kInfinity : largest + std::log(sum);
          for (int64_t i = 0; i < size; ++i) {
            if (p[i] == -kInfinity) continue;
            double weight = std::exp(p[i] - lse);
            if (last && s.dropout > 0) {
              const auto words = dropout_words(kSeed, static_cast<uint32_t>(n), static_cast<uint32_t>(h),
                                               static_cast<uint32_t>(l), static_cast<uint32_t>(i / 4));
              weight *= words[i % 4] < dropout_threshold(s.dropout) ? 0.0 : 1.0 / (1.0 - s.dropout);
            }
            mass += weight;
            for (int64_t k = 0; k < s.width; ++k) mean[k] += weight * y[i * s.width + k];
          }
          if (last) break;
          if (largest == -kInfinity) {
            residual = 0;
            frozen = true;
            continue;
          }
          double squares = 0;
          for (int64_t j = 0; j < s.depth; ++j) {
            double next = s.bias ? d.bias[h * s.depth + j] : 0.0;
            for (int64_t k = 0; k < s.width; ++k) next += d.weight[(h * s.depth + j) * s.width + k] * mean[k];
            squares += (next - xi[j]) * (next - xi[j]);
            xi[j] = next;
          }
          residual = std::sqrt(squares);
          ++steps;
          frozen = s.eps > 0 && residual <= s.eps;
        }
        r.output.insert(r.output.end(), mean.begin(), mean.end());
        r.state.insert(r.state.end(), xi.begin(), xi.end());
        r.logsumexp.push_back(lse);
        r.mass.push_back(mass);
        r.residual.push_back(lse == -kInfinity ? 0.0 : residual);
        r.steps.push_back(steps);
      }
    }
    first += size;
  }
  return r;
}

std::vector<unsigned char> as_type(const std::vector<float>& values, PoolType type) {
  std::vector<unsigned char> bytes(values.size() * (type == PoolType::float32 ? 4 : 2));
  for (size_t i = 0; i < values.size(); ++i) {
    if (type == PoolType::float32) std::memcpy(&bytes[4 * i], &values[i], 4);
    const auto bits =
        type == PoolType::bfloat16 ? from_float<bfloat16_t>(values[i]).bits : from_float<float16_t>(values[i]).bits;
    if (type != PoolType::float32) std::memcpy(&bytes[2 * i], &bits, 2);
  }
  return bytes;
}

/// Rows of 16 bytes, the room behind the width NaN: it belongs to somebody else.
std::vector<float> with_room(const Sample& s, const std::vector<float>& instances, int64_t row) {
  std::vector<float> result(static_cast<size_t>(s.total() * row), std::numeric_limits<float>::quiet_NaN());
  for (int64_t i = 0; i < s.total(); ++i) {
    std::copy_n(&instances[static_cast<size_t>(i * s.width)], s.width, &result[static_cast<size_t>(i * row)]);
  }
  return result;
}

struct Found {
  std::vector<float> output, state, logsumexp, mass, residual, scores;
  std::vector<int64_t> steps;
};

Found pooled(const Sample& s, const Data& d) {
  PoolCall call;
  call.bags = static_cast<int64_t>(s.bags.size());
  call.heads = s.heads;
  call.queries = s.queries;
  call.depth = s.depth;
  call.width = s.width;
  call.total = s.total();
  call.instance_row = (s.width + 7) / 8 * 8;
  call.normalize = s.normalize;
  call.normalize_eps = 1e-5f;
  call.dropout = s.dropout;
  call.seed = kSeed;
  call.most_steps = s.steps;
  call.type = s.type;
  std::vector<int64_t> offsets{0};
  for (const auto size : s.bags) offsets.push_back(offsets.back() + size);
  const auto heads = static_cast<size_t>(s.heads);
  const auto rows = static_cast<size_t>(call.bags * s.heads * s.queries);
  const DeviceArray<unsigned char> instances(as_type(with_room(s, d.instances, call.instance_row), s.type));
  const DeviceArray<int64_t> places(offsets), steps_max(heads, s.steps);
  const DeviceArray<float> weight(d.weight), bias(d.bias), key_bias(d.key_bias), state(d.state), beta(heads, s.beta),
      eps(heads, s.eps);
  call.instances = instances.data();
  call.offsets = places.data();
  call.weight = weight.data();
  if (s.bias) call.bias = bias.data();
  if (s.key_bias) call.key_bias = key_bias.data();
  call.state = state.data();
  call.beta = beta.data();
  call.eps = eps.data();
  call.steps_max = steps_max.data();
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const DeviceArray<float> output(rows * static_cast<size_t>(s.width), nan),
      final_state(rows * static_cast<size_t>(s.depth), nan), logsumexp(rows, nan), residual(rows, nan), mass(rows, nan),
      scores(static_cast<size_t>(s.total() * s.heads * s.queries), nan);
  const DeviceArray<int64_t> steps(rows, -1);
  const DeviceArray<uint8_t> converged(rows, 7);
  const DeviceArray<unsigned char> workspace(pool_workspace_size(call), 0xFF);
  const PoolOutputs outputs{output.data(), final_state.data(), logsumexp.data(), residual.data(), mass.data(),
                            steps.data(),  converged.data(),   scores.data(),    nullptr,         nullptr,
                            nullptr};
  const auto error = pool_forward(call, outputs, workspace.data(), nullptr);
  if (!error.empty()) throw std::runtime_error(error);
  return {output.download(),   final_state.download(), logsumexp.download(), mass.download(),
          residual.download(), scores.download(),      steps.download()};
}

void expect_near(const std::vector<float>& found, const std::vector<double>& reference, double tolerance,
                 const char* name) {
  ASSERT_EQ(found.size(), reference.size()) << name;
  double scale = 1;
  for (const auto value : reference) {
    if (std::isfinite(value)) scale = std::max(scale, std::abs(value));
  }
  for (size_t i = 0; i < found.size(); ++i) {
    if (std::isfinite(reference[i])) {
      ASSERT_NEAR(found[i], reference[i], tolerance * scale) << name << " " << i;
    } else {
      ASSERT_EQ(std::isnan(found[i]), std::isnan(reference[i])) << name << " " << i;
      if (!std::isnan(found[i])) {
        ASSERT_EQ(found[i], reference[i]) << name << " " << i;
      }
    }
  }
}

void check(const Sample& s) {
  const auto data = draw(s);
  const auto found = pooled(s, data);
  const auto reference = expected(s, data);
  // Far below what rounding the results to the type would cost.
  const double tolerance = s.type == PoolType::bfloat16 ? 2e-4 : s.type == PoolType::float16 ? 1e-4 : 3e-5;
  expect_near(found.output, reference.output, tolerance, "output");
  expect_near(found.state, reference.state, tolerance, "state");
  expect_near(found.mass, reference.mass, tolerance, "mass");
  expect_near(found.logsumexp, reference.logsumexp, tolerance, "logsumexp");
  expect_near(found.scores, reference.scores, tolerance, "scores");
  expect_near(found.residual, reference.residual, tolerance, "residual");
  if (s.eps == 0) {
    EXPECT_EQ(found.steps, reference.steps);
  }
}

class CudaPool : public Cuda, public ::testing::WithParamInterface<PoolType> {};

TEST_P(CudaPool, RaggedBagsOfUglySizes) {
  Sample s;
  s.type = GetParam();
  s.bags = {1, 0, 5, 63, 64, 65, 130};
  check(s);
}

TEST_P(CudaPool, SeveralParts) {
  Sample s;
  s.type = GetParam();
  s.bags = {2 * kPoolPart + 100, 3, kPoolPart};
  s.queries = 1;
  s.steps = 1;
  check(s);
}

TEST_P(CudaPool, ExcludedInstancesMayBeAnything) {
  Sample s;
  s.type = GetParam();
  s.bags = {70, 1, 30};
  s.key_bias = true;
  check(s);
}

TEST_P(CudaPool, WithoutNormAndBias) {
  Sample s;
  s.type = GetParam();
  s.bags = {100, 20};
  s.normalize = s.bias = false;
  check(s);
}

TEST_P(CudaPool, MoreRowsThanABlockTakes) {
  Sample s;
  s.type = GetParam();
  s.bags = {50, 9};
  s.heads = 5;
  s.queries = 7;
  s.steps = 1;
  check(s);
}

TEST_P(CudaPool, DropoutHasThePhiloxMask) {
  Sample s;
  s.type = GetParam();
  s.bags = {90, 33};
  s.dropout = 0.4f;
  check(s);
}

TEST_P(CudaPool, OneAssociation) {
  Sample s;
  s.type = GetParam();
  s.bags = {90, 33};
  s.steps = 0;
  check(s);
}

TEST_P(CudaPool, InstancesFarFromZero) {
  Sample s;
  s.type = GetParam();
  s.bags = {90};
  s.shift = 100.0f;
  check(s);
}

TEST_P(CudaPool, StopsEarly) {
  Sample s;
  s.type = GetParam();
  s.bags = {40, 90, 1};
  s.steps = 20;
  s.eps = 0.05f;
  s.beta = 0.1f;
  check(s);
}

INSTANTIATE_TEST_SUITE_P(Types, CudaPool, ::testing::Values(PoolType::float32, PoolType::bfloat16, PoolType::float16));

TEST_F(Cuda, PoolsWideInstances) {
  for (const int64_t width : {7, 300, 1000}) {
    Sample s;
    s.bags = {70, 3};
    s.width = width;
    s.type = PoolType::bfloat16;
    check(s);
  }
}

TEST_F(Cuda, PoolMergesGroupsOfParts) {
  Sample s;
  s.bags = {kPoolPart * (2 * kPoolGroup + 1) + 5};
  s.width = 8;
  s.depth = 4;
  s.heads = s.queries = 1;
  s.steps = 0;
  s.type = PoolType::bfloat16;
  check(s);
}

TEST_F(Cuda, PoolGivesABagTheSameBitsInAnyBatch) {
  Sample batch;
  batch.bags = {70, 1300, 40};
  batch.steps = 1;
  const auto data = draw(batch);
  const auto together = pooled(batch, data);
  auto alone = batch;
  alone.bags = {1300};
  auto part = data;
  part.instances.assign(data.instances.begin() + 70 * batch.width, data.instances.begin() + 1370 * batch.width);
  const auto found = pooled(alone, part);
  const auto row = batch.heads * batch.queries * batch.width;
  EXPECT_TRUE(std::equal(found.output.begin(), found.output.end(), together.output.begin() + row));
}

}  // namespace
}  // namespace hopfield::kernels::cuda
