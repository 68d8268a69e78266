#pragma once

// Calls of pooling for tests: drawn, answered by the formula in float64, and run on the device.

#include "../support/cuda_on_host/numbers.h"  // conversions in plain C++
#include "harness.h"

#include <kernels/cuda/pool.h>
#include <kernels/philox.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace hopfield::kernels::cuda {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// A call in host memory.
struct Sample {
  std::vector<int64_t> bags;  ///< sizes
  int64_t heads = 2, queries = 3, depth = 8, width = 40, steps = 2;
  PoolType type = PoolType::float32;
  bool normalize = true, bias = true, key_bias = false;
  float shift = 0.0f, eps = 0.0f, dropout = 0.0f;
  double beta = 0.5;
  uint32_t seed = 1;
  bool plain_float32 = false;
  bool on_chip = false;  ///< where a bag fits, in slices of one tile: clusters of many blocks for small bags

  int64_t total() const {
    int64_t sum = 0;
    for (const auto size : bags) sum += size;
    return sum;
  }
};

/// In float64, but every number is one of the type that the call takes.
struct Data {
  std::vector<double> instances, weight, bias, key_bias, state;
};

inline std::vector<double> random_doubles(int64_t count, uint32_t seed) {
  const auto floats = random_floats(static_cast<size_t>(count), seed);
  return {floats.begin(), floats.end()};
}

inline std::vector<float> as_floats(const std::vector<double>& values) { return {values.begin(), values.end()}; }

inline float rounded(float value, PoolType type) {
  if (type == PoolType::bfloat16) return cuda_on_host::float_of_bfloat16(cuda_on_host::bfloat16_bits(value));
  return type == PoolType::float16 ? cuda_on_host::float_of_float16(cuda_on_host::float16_bits(value)) : value;
}

inline Data draw(const Sample& s) {
  Data d;
  d.instances = random_doubles(s.total() * s.width, s.seed);
  for (auto& value : d.instances) value = rounded(static_cast<float>(value) + s.shift, s.type);
  d.weight = random_doubles(s.heads * s.depth * s.width, s.seed + 1);
  for (auto& value : d.weight) value = static_cast<float>(value / std::sqrt(static_cast<double>(s.width)));
  if (s.bias) d.bias = random_doubles(s.heads * s.depth, s.seed + 2);
  if (s.key_bias) {
    d.key_bias = random_doubles(s.total(), s.seed + 3);
    for (size_t i = 0; i < d.key_bias.size(); i += 3) {
      d.key_bias[i] = -kInfinity;
      for (int64_t k = 0; k < s.width; ++k) d.instances[i * s.width + k] = std::nan("");
    }
  }
  d.state = random_doubles(s.heads * s.queries * s.depth, s.seed + 4);  // shared by the bags
  return d;
}

struct Results {
  std::vector<double> output, state, logsumexp, mass, residual, scores;
  std::vector<int64_t> steps;
};

constexpr uint64_t kSeed = 0x123456789ABCDEFull;

inline Results expected(const Sample& s, const Data& d) {
  Results r;
  r.scores.assign(static_cast<size_t>(s.total() * s.heads * s.queries), 0.0);
  int64_t first = 0;
  for (size_t n = 0; n < s.bags.size(); ++n) {
    const auto size = s.bags[n];
    std::vector<double> y(static_cast<size_t>(size * s.width));
    for (int64_t i = 0; i < size; ++i) {
      const double* from = &d.instances[static_cast<size_t>((first + i) * s.width)];
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

inline std::vector<unsigned char> as_type(const std::vector<float>& values, PoolType type) {
  std::vector<unsigned char> bytes(values.size() * (type == PoolType::float32 ? 4 : 2));
  for (size_t i = 0; i < values.size(); ++i) {
    if (type == PoolType::float32) std::memcpy(&bytes[4 * i], &values[i], 4);
    const auto bits =
        type == PoolType::bfloat16 ? cuda_on_host::bfloat16_bits(values[i]) : cuda_on_host::float16_bits(values[i]);
    if (type != PoolType::float32) std::memcpy(&bytes[2 * i], &bits, 2);
  }
  return bytes;
}

/// Rows of 16 bytes, the room behind the width NaN: it belongs to somebody else.
inline std::vector<float> with_room(const Sample& s, const std::vector<double>& instances, int64_t row) {
  std::vector<float> result(static_cast<size_t>(s.total() * row), std::numeric_limits<float>::quiet_NaN());
  for (int64_t i = 0; i < s.total(); ++i) {
    for (int64_t k = 0; k < s.width; ++k) result[i * row + k] = static_cast<float>(instances[i * s.width + k]);
  }
  return result;
}

/// A call on the device, with all that it reads and writes.
class Device {
 public:
  Device(const Sample& s, const Data& d)
      : rows_(static_cast<size_t>(static_cast<int64_t>(s.bags.size()) * s.heads * s.queries)),
        instances_(as_type(with_room(s, d.instances, row_of(s)), s.type)),
        offsets_(places(s)),
        steps_max_(static_cast<size_t>(s.heads), s.steps),
        weight_(as_floats(d.weight)),
        bias_(as_floats(d.bias)),
        key_bias_(as_floats(d.key_bias)),
        state_(as_floats(d.state)),
        beta_(static_cast<size_t>(s.heads), static_cast<float>(s.beta)),
        eps_(static_cast<size_t>(s.heads), s.eps),
        output(rows_ * static_cast<size_t>(s.width), kNan),
        state(rows_ * static_cast<size_t>(s.depth), kNan),
        logsumexp(rows_, kNan),
        residual(rows_, kNan),
        mass(rows_, kNan),
        scores(static_cast<size_t>(s.total() * s.heads * s.queries), kNan),
        saved_states(rows_ * static_cast<size_t>(s.steps * s.depth), kNan),
        saved_sums(rows_ * static_cast<size_t>(2 * (s.steps + 1)), kNan),
        saved_means(rows_ * static_cast<size_t>(s.steps * s.width), kNan),
        steps(rows_, -1),
        converged_(rows_, 7) {
    call.bags = static_cast<int64_t>(s.bags.size());
    call.heads = s.heads;
    call.queries = s.queries;
    call.depth = s.depth;
    call.width = s.width;
    call.total = s.total();
    call.instances = instances_.data();
    call.instance_row = row_of(s);
    call.offsets = offsets_.data();
    call.weight = weight_.data();
    if (s.bias) call.bias = bias_.data();
    if (s.key_bias) call.key_bias = key_bias_.data();
    call.state = state_.data();
    call.beta = beta_.data();
    call.eps = eps_.data();
    call.steps_max = steps_max_.data();
    call.normalize = s.normalize;
    call.normalize_eps = 1e-5f;
    call.dropout = s.dropout;
    call.seed = kSeed;
    call.most_steps = s.steps;
    call.type = s.type;
    call.plain_float32 = s.plain_float32;
    if (!s.on_chip) call.most_cluster = 0;
    call.most_slice_tiles = 1;
    const DeviceArray<unsigned char> workspace(pool_workspace_size(call), 0xFF);
    const PoolOutputs outputs{output.data(),       state.data(),      logsumexp.data(),  residual.data(),
                              mass.data(),         steps.data(),      converged_.data(), scores.data(),
                              saved_states.data(), saved_sums.data(), saved_means.data()};
    const auto error = pool_forward(call, outputs, workspace.data(), nullptr);
    if (!error.empty()) throw std::runtime_error(error);
    output.download();  // waits before the workspace goes
  }

  static int64_t row_of(const Sample& s) { return (s.width + 7) / 8 * 8; }
  PoolCall call;

 private:
  static constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  static std::vector<int64_t> places(const Sample& s) {
    std::vector<int64_t> offsets{0};
    for (const auto size : s.bags) offsets.push_back(offsets.back() + size);
    return offsets;
  }
  size_t rows_;
  DeviceArray<unsigned char> instances_;
  DeviceArray<int64_t> offsets_, steps_max_;
  DeviceArray<float> weight_, bias_, key_bias_, state_, beta_, eps_;

 public:
  DeviceArray<float> output, state, logsumexp, residual, mass, scores, saved_states, saved_sums, saved_means;
  DeviceArray<int64_t> steps;

 private:
  DeviceArray<uint8_t> converged_;
};

}  // namespace hopfield::kernels::cuda
