#pragma once

// A call of attention-like retrieval, its data, and both on the device.

#include "pool_case.h"  // random numbers, rounding, types

#include <kernels/cuda/retrieve.h>

#include <algorithm>

namespace hopfield::kernels::cuda {

/// A call in host memory, everything contiguous but what is shared.
struct Retrieval {
  int64_t batch = 2, heads = 2, queries = 5, keys = 70, depth = 8, width = 0;  ///< width 0: no values of their own
  int64_t steps = 2;
  ElementType type = ElementType::float32;
  bool plain = false, shared_batch = false, shared_heads = false, key_bias = false;
  ScoreMask::Kind mask = ScoreMask::Kind::none;
  bool mask_of_head = true;  ///< otherwise all heads and queries share it
  std::vector<int64_t> bags;
  float eps = 0.0f, dropout = 0.0f;
  double beta = 0.6;
  bool compares_heads = false;
  std::vector<float> eps_of_heads;      ///< empty: all have `eps`
  std::vector<int64_t> steps_of_heads;  ///< empty: all have `steps`, which is the most otherwise
  std::vector<double> beta_of_heads;    ///< empty: all have `beta`
  bool keys_first = false;              ///< patterns that are not ragged are [batch or 1, keys, heads or 1, width], too

  int64_t rows() const { return batch * heads * queries; }
  int64_t steps_of(int64_t h) const { return steps_of_heads.empty() ? steps : steps_of_heads[static_cast<size_t>(h)]; }
  double beta_of(int64_t h) const { return beta_of_heads.empty() ? beta : beta_of_heads[static_cast<size_t>(h)]; }
  bool heads_in_rows() const { return keys_first || !bags.empty(); }
  int64_t value_width() const { return width > 0 ? width : depth; }
  int64_t sets() const { return (shared_batch || !bags.empty() ? 1 : batch) * (shared_heads ? 1 : heads); }
  float eps_of(int64_t h) const { return eps_of_heads.empty() ? eps : eps_of_heads[static_cast<size_t>(h)]; }
  int64_t all_keys() const {
    int64_t sum = 0;
    for (const auto size : bags) sum += size;
    return bags.empty() ? keys : sum;
  }
  int64_t mask_size() const { return (mask_of_head ? rows() : batch) * keys; }
  /// The first key of a batch element, and how many.
  std::pair<int64_t, int64_t> range(int64_t n) const {
    if (bags.empty()) return {0, keys};
    int64_t first = 0;
    for (int64_t i = 0; i < n; ++i) first += bags[static_cast<size_t>(i)];
    return {first, bags[static_cast<size_t>(n)]};
  }
  /// Patterns are [batch or 1, heads or 1, keys, width], ragged [total, heads or 1, width].
  int64_t pattern(int64_t n, int64_t h, int64_t key, int64_t of_width) const {
    const int64_t own_heads = shared_heads ? 1 : heads, head = shared_heads ? 0 : h;
    const int64_t element = shared_batch || !bags.empty() ? 0 : n;
    if (heads_in_rows()) return ((element * keys + key) * own_heads + head) * of_width;
    return ((element * own_heads + head) * keys + key) * of_width;
  }
  int64_t mask_at(int64_t n, int64_t h, int64_t l, int64_t key) const {
    return (mask_of_head ? (n * heads + h) * queries + l : n) * keys + key;
  }
};

struct Patterns {
  std::vector<double> state, stored, values, key_bias, mask;
};

inline Patterns draw(const Retrieval& r) {
  Patterns p;
  const auto numbers = [&](int64_t count, uint32_t seed) {
    auto values = random_doubles(count, seed);
    for (auto& value : values) value = rounded(static_cast<float>(value), r.type);
    return values;
  };
  p.state = numbers(r.rows() * r.depth, 1);
  p.stored = numbers(r.sets() * r.all_keys() * r.depth, 2);
  if (r.width > 0) p.values = numbers(r.sets() * r.all_keys() * r.width, 3);
  if (r.key_bias) {
    p.key_bias = random_doubles((r.shared_batch || !r.bags.empty() ? 1 : r.batch) * r.all_keys(), 4);
    for (size_t i = 0; i < p.key_bias.size(); i += 3) {
      p.key_bias[i] = -kInfinity;
      const int64_t n = static_cast<int64_t>(i) / r.all_keys(), key = static_cast<int64_t>(i) % r.all_keys();
      for (int64_t h = 0; h < r.heads; ++h) {
        for (int64_t k = 0; k < r.depth; ++k) p.stored[r.pattern(n, h, key, r.depth) + k] = std::nan("");
        for (int64_t k = 0; k < r.width; ++k) p.values[r.pattern(n, h, key, r.width) + k] = std::nan("");
      }
    }
  }
  if (r.mask != ScoreMask::Kind::none) {
    p.mask = random_doubles(r.mask_size(), 5);
    const bool boolean = r.mask == ScoreMask::Kind::boolean;
    for (auto& value : p.mask) {
      if (boolean) value = value > 0.3 ? 1.0 : 0.0;
      if (!boolean && value > 1.0) value = -kInfinity;
    }
    for (int64_t key = 0; key < r.keys; ++key) p.mask[r.mask_at(0, 0, 0, key)] = boolean ? 1.0 : -kInfinity;  // dead
  }
  return p;
}

inline std::vector<double> from_type(const std::vector<unsigned char>& bytes, ElementType type) {
  std::vector<double> values;
  const size_t size = type == ElementType::float32 ? 4 : 2;
  for (size_t i = 0; i < bytes.size(); i += size) {
    float value = 0;
    uint16_t bits = 0;
    std::memcpy(&value, &bytes[i], size == 4 ? 4 : 0);
    std::memcpy(&bits, &bytes[i], 2);
    if (type == ElementType::bfloat16) value = cuda_on_host::float_of_bfloat16(bits);
    if (type == ElementType::float16) value = cuda_on_host::float_of_float16(bits);
    values.push_back(value);
  }
  return values;
}

/// The room behind the width is NaN: it belongs to somebody else.
inline DeviceArray<unsigned char> patterns_on_device(const std::vector<double>& values, int64_t width, int64_t row,
                                                     ElementType type) {
  const auto rows = width > 0 ? static_cast<int64_t>(values.size()) / width : 0;
  std::vector<float> with_room(static_cast<size_t>(rows * row), std::numeric_limits<float>::quiet_NaN());
  for (int64_t i = 0; i < rows * width; ++i) with_room[i / width * row + i % width] = static_cast<float>(values[i]);
  return DeviceArray<unsigned char>(as_type(with_room, type));
}

/// A call and its results in the device's memory, all of them poisoned.
class RetrievalOnDevice {
 public:
  RetrievalOnDevice(const Retrieval& r, const Patterns& p) : r_(r) {
    const bool ragged = !r.bags.empty();
    call.batch = r.batch;
    call.heads = r.heads;
    call.queries = r.queries;
    call.keys = r.all_keys();
    call.depth = r.depth;
    call.width = r.value_width();
    call.state = keep(p.state, r.depth, r.heads * r.queries, r.queries);
    call.stored = patterns(p.stored, r.depth);
    if (r.width > 0) call.values = patterns(p.values, r.width);
    if (ragged) {
      std::vector<int64_t> places{0};
      for (const auto bag : r.bags) places.push_back(places.back() + bag);
      call.offsets = keep(places);
    }
    if (r.key_bias) {
      call.key_bias = keep(as_floats(p.key_bias));
      if (!ragged && !r.shared_batch) call.key_bias_batch = r.keys;
    }
    call.mask.kind = r.mask;
    call.mask.data = r.mask == ScoreMask::Kind::boolean
                         ? static_cast<const void*>(keep(std::vector<uint8_t>(p.mask.begin(), p.mask.end())))
                         : keep(as_floats(p.mask));
    call.mask.batch = r.mask_at(1, 0, 0, 0);
    call.mask.head = r.mask_of_head ? r.mask_at(0, 1, 0, 0) : 0;
    call.mask.query = r.mask_of_head ? r.mask_at(0, 0, 1, 0) : 0;
    call.mask.key = 1;
    std::vector<float> beta;
    std::vector<int64_t> steps;
    std::vector<float> eps;
    for (int64_t h = 0; h < r.heads; ++h) {
      beta.push_back(static_cast<float>(r.beta_of(h)));
      steps.push_back(r.steps_of(h));
      eps.push_back(r.eps_of(h));
    }
    call.beta = keep(beta);
    call.steps_max = keep(steps);
    call.eps = keep(eps);
    call.dropout = r.dropout;
    call.seed = kSeed;
    call.most_steps = r.steps;
    call.type = r.type;
    call.plain_float32 = r.plain;
    call.exact_states = std::any_of(eps.begin(), eps.end(), [](float value) { return value > 0; });
    call.compares_heads = r.compares_heads;
    out.output = typed(r.value_width());
    out.state = typed(r.depth);
    out.logsumexp = floats(1);
    out.residual = floats(1);
    out.steps = keep(std::vector<int64_t>(rows(), -1));
    out.converged = keep(std::vector<uint8_t>(rows(), 7));
    out.states = floats((r.compares_heads ? 2 : 1) * r.depth);
    out.workspace = keep(std::vector<unsigned char>(retrieve_workspace_size(call), 0xFF));
    out.scores = keep(std::vector<float>(scores_size(), kNan));
    out.score_batch = ragged ? 0 : r.heads * r.queries * r.keys;
    out.score_head = ragged ? r.queries : r.queries * r.keys;
    out.score_query = ragged ? 1 : r.keys;
    out.score_key = ragged ? r.heads * r.queries : 1;
    out.saved.states = typed(r.steps * retrieve_saved_row(call));
    if (call.exact_states && r.type != ElementType::float32) {
      out.saved.rest = typed(r.steps * retrieve_saved_row(call));
    }
    out.saved.sums = floats(2 * (r.steps + 1));
  }

  void forward() const {
    const auto error = retrieve_forward(call, out, nullptr);
    if (!error.empty()) throw std::runtime_error(error);
  }

  size_t rows() const { return static_cast<size_t>(r_.rows()); }
  size_t scores_size() const {
    return static_cast<size_t>(r_.heads * r_.queries * (r_.bags.empty() ? r_.batch : 1) * r_.all_keys());
  }

  /// Memory that lives as long as this object.
  template <class T>
  T* keep(const std::vector<T>& values) {
    const auto array = std::make_shared<DeviceArray<T>>(values);
    kept_.push_back(array);
    return array->data();
  }
  /// Rows of numbers of the call's type, multiples of 16 bytes with room behind.
  Strided keep(const std::vector<double>& values, int64_t width, int64_t rows_of_batch, int64_t rows_of_head) {
    const int64_t row = (width / 8 + 1) * 8;
    const auto array = std::make_shared<DeviceArray<unsigned char>>(patterns_on_device(values, width, row, r_.type));
    kept_.push_back(array);
    return {array->data(), rows_of_batch * row, rows_of_head * row, row};
  }
  float* floats(int64_t width) { return keep(std::vector<float>(rows() * static_cast<size_t>(width), kNan)); }
  void* typed(int64_t width) {
    return keep(std::vector<unsigned char>(rows() * static_cast<size_t>(width) * element_size(), 0xFF));
  }

  std::vector<double> download_typed(const void* data, size_t size) const {
    const auto bytes = download(static_cast<const unsigned char*>(data), size * element_size());
    return from_type(bytes, r_.type);
  }
  std::vector<double> download_floats(const float* data, size_t size) const {
    const auto values = download(data, size);
    return {values.begin(), values.end()};
  }
  template <class T>
  static std::vector<T> download(const T* data, size_t size) {
    std::vector<T> values(size);
#if defined(__CUDACC__)
    require_success(cudaDeviceSynchronize());
    require_success(cudaMemcpy(values.data(), data, size * sizeof(T), cudaMemcpyDeviceToHost));
#else
    if (size > 0) std::memcpy(values.data(), data, size * sizeof(T));
#endif
    return values;
  }

  RetrieveCall call;
  RetrieveOutputs out{};

 private:
  static constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

  size_t element_size() const { return r_.type == ElementType::float32 ? 4 : 2; }
  Strided patterns(const std::vector<double>& values, int64_t width) {
    const int64_t own_heads = r_.shared_heads ? 1 : r_.heads;
    auto s = keep(values, width, own_heads * r_.keys, r_.keys);
    if (r_.heads_in_rows()) {
      s.head = s.row;
      s.row *= own_heads;
    }
    if (r_.shared_heads) s.head = 0;
    if (!r_.bags.empty() || r_.shared_batch) s.batch = 0;
    return s;
  }

  const Retrieval r_;
  std::vector<std::shared_ptr<void>> kept_;
};

/// One query's association with the patterns of its set.
struct Association {
  std::vector<double> state, scores, weights, factors, read;  ///< factors: of dropout; read: the weighted sum
  double logsumexp = -kInfinity;                              ///< minus infinity: there is nothing to attend to
};

/// The formula for one query, in float64.
inline Association associate(const Retrieval& r, const Patterns& p, int64_t row, const std::vector<double>& state,
                             bool last) {
  const int64_t n = row / (r.heads * r.queries), h = row / r.queries % r.heads, l = row % r.queries;
  const auto [first, keys] = r.range(n);
  Association a;
  a.state = state;
  double largest = -kInfinity, sum = 0;
  for (int64_t i = 0; i < keys; ++i) {
    double score = r.key_bias ? p.key_bias[(r.shared_batch || !r.bags.empty() ? 0 : n) * r.all_keys() + first + i] : 0;
    if (r.mask == ScoreMask::Kind::float32) score += p.mask[r.mask_at(n, h, l, i)];
    if (r.mask == ScoreMask::Kind::boolean && p.mask[r.mask_at(n, h, l, i)] != 0) score = -kInfinity;
    for (int64_t k = 0; k < r.depth && score != -kInfinity; ++k) {
      score += r.beta_of(h) * state[k] * p.stored[r.pattern(n, h, first + i, r.depth) + k];
    }
    a.scores.push_back(score);
    largest = std::max(largest, score);
  }
  for (const auto score : a.scores) {
    a.weights.push_back(score == -kInfinity ? 0 : std::exp(score - largest));
    sum += a.weights.back();
  }
  if (sum != 0) a.logsumexp = largest + std::log(sum);
  for (auto& weight : a.weights) weight /= sum != 0 ? sum : 1;
  a.factors.assign(a.weights.size(), 1.0);
  for (int64_t i = 0; i < keys && last && r.dropout > 0; ++i) {
    const auto words = dropout_words(kSeed, static_cast<uint32_t>(n), static_cast<uint32_t>(h),
                                     static_cast<uint32_t>(l), static_cast<uint32_t>(i / 4));
    a.factors[i] = words[i % 4] < dropout_threshold(r.dropout) ? 0.0 : 1.0 / (1.0 - r.dropout);
  }
  const int64_t width = last ? r.value_width() : r.depth;
  const auto& patterns = last && r.width > 0 ? p.values : p.stored;
  a.read.assign(static_cast<size_t>(width), 0);
  for (int64_t i = 0; i < keys; ++i) {
    if (a.weights[i] == 0) continue;  // it may be anything
    for (int64_t k = 0; k < width; ++k) {
      a.read[k] += a.weights[i] * a.factors[i] * patterns[r.pattern(n, h, first + i, width) + k];
    }
  }
  return a;
}

inline void expect_near(const std::vector<double>& found, const std::vector<double>& reference, double tolerance,
                        const char* name) {
  ASSERT_EQ(found.size(), reference.size()) << name;
  for (size_t i = 0; i < found.size(); ++i) {
    if (std::isfinite(reference[i])) {
      ASSERT_NEAR(found[i], reference[i], tolerance * std::max(1.0, std::abs(reference[i]))) << name << " " << i;
    } else if (std::isnan(reference[i])) {
      ASSERT_TRUE(std::isnan(found[i])) << name << " " << i;
    } else {
      ASSERT_EQ(found[i], reference[i]) << name << " " << i;
    }
  }
}

/// Tests of each type, and of float32 with and without tensor cores.
class CudaOfTypes : public Cuda, public ::testing::WithParamInterface<std::pair<ElementType, bool>> {
 protected:
  static Retrieval sample() {
    Retrieval r;
    std::tie(r.type, r.plain) = GetParam();
    return r;
  }
};

inline auto all_types() {
  return ::testing::Values(std::pair{ElementType::float32, false}, std::pair{ElementType::float32, true},
                           std::pair{ElementType::bfloat16, false}, std::pair{ElementType::float16, false});
}

}  // namespace hopfield::kernels::cuda
