#pragma once

// A call of attention-like retrieval for tests: described, drawn, and put on the device.

#include "../../support/hardware_errors.h"
#include "drawing.h"

#include <kernels/cuda/retrieve.h>

#include <algorithm>
#include <tuple>

namespace hopfield::kernels::cuda {

/// What is retrieved from what.
struct Retrieval {
  int64_t batch = 2, heads = 2, queries = 5, keys = 70, depth = 8;
  int64_t width = 0;  ///< of the values; 0: the stored patterns are read out
  int64_t steps = 2;
  ElementType type = ElementType::float32;
  bool plain = false, shared_batch = false, shared_heads = false, key_bias = false;
  ScoreMask::Kind mask = ScoreMask::Kind::none;
  bool causal = false;
  bool mask_of_head = true;   ///< otherwise all heads and queries of a batch element share it
  std::vector<int64_t> bags;  ///< sizes of ragged patterns; empty: they are not ragged
  float eps = 0.0f, dropout = 0.0f;
  double beta = 0.6;
  bool per_head = false;  ///< the stop rule
  // Where heads differ.
  std::vector<float> eps_of_heads;      ///< empty: all have `eps`
  std::vector<int64_t> steps_of_heads;  ///< empty: all have `steps`, which is the largest otherwise
  std::vector<double> beta_of_heads;    ///< empty: all have `beta`
  bool keys_first = false;  ///< patterns lie in memory as [batch or 1, keys, heads or 1, width]; ragged ones always do

  int64_t rows() const { return batch * heads * queries; }
  int64_t value_width() const { return width > 0 ? width : depth; }
  int64_t steps_of(int64_t h) const { return steps_of_heads.empty() ? steps : steps_of_heads[static_cast<size_t>(h)]; }
  double beta_of(int64_t h) const { return beta_of_heads.empty() ? beta : beta_of_heads[static_cast<size_t>(h)]; }
  float eps_of(int64_t h) const { return eps_of_heads.empty() ? eps : eps_of_heads[static_cast<size_t>(h)]; }
};

/// A tensor [batch, heads, queries, width] of rows with padding.
inline Strided queries_with_padding(const Retrieval& r, int64_t width) {
  const auto row = padded_row(width);
  return {nullptr, r.heads * r.queries * row, r.queries * row, row};
}

/// Excludes every third key, and makes its patterns NaN.
inline void draw_key_bias(const Retrieval& r, PlainCall& p) {
  const auto& call = p.call;
  p.key_bias = random_doubles((r.shared_batch || p.is_ragged() ? 1 : r.batch) * call.keys, 4);
  for (size_t i = 0; i < p.key_bias.size(); i += 3) {
    p.key_bias[i] = -kInfinity;
    const int64_t n = static_cast<int64_t>(i) / call.keys, key = static_cast<int64_t>(i) % call.keys;
    for (int64_t h = 0; h < r.heads; ++h) {
      const auto spoil = [&](std::vector<double>& patterns, const Strided& at, int64_t width) {
        const auto begin = patterns.begin() + n * at.batch + h * at.head + key * at.row;
        std::fill(begin, begin + width, std::nan(""));
      };
      spoil(p.stored, call.stored, r.depth);
      if (r.width > 0) spoil(p.values, call.values, r.width);
    }
  }
}

/// Query 0 of the first batch element and head may attend to nothing.
inline void draw_mask(const Retrieval& r, PlainCall& p) {
  auto& mask = p.call.mask;
  mask = {r.mask, nullptr, r.keys, 0, 0, 1};
  if (r.mask_of_head) mask = {r.mask, nullptr, r.heads * r.queries * r.keys, r.queries * r.keys, r.keys, 1};
  p.mask = random_doubles(r.batch * mask.batch, 5);
  const bool boolean = r.mask == ScoreMask::Kind::boolean;
  for (auto& value : p.mask) {
    if (boolean) value = value > 0.3 ? 1.0 : 0.0;
    if (!boolean && value > 1.0) value = -kInfinity;
  }
  std::fill_n(p.mask.begin(), r.keys, boolean ? 1.0 : -kInfinity);
}

inline PlainCall draw(const Retrieval& r) {
  PlainCall p;
  auto& call = p.call;
  call.batch = r.batch;
  call.heads = r.heads;
  call.queries = r.queries;
  call.depth = r.depth;
  call.width = r.value_width();
  call.type = r.type;
  call.dropout = r.dropout;
  call.seed = kSeed;
  call.most_steps = r.steps;
  call.per_head = r.per_head;
  call.is_causal = r.causal;
  if (!r.bags.empty()) p.offsets = offsets_of(r.bags);
  call.keys = p.is_ragged() ? p.offsets.back() : r.keys;
  const auto patterns = [&](Strided& at, int64_t width, uint32_t seed) {
    const int64_t heads = r.shared_heads ? 1 : r.heads, row = padded_row(width);
    const int64_t batch = r.shared_batch || p.is_ragged() ? 1 : r.batch;
    at.row = r.keys_first || p.is_ragged() ? heads * row : row;
    if (!r.shared_heads) at.head = r.keys_first || p.is_ragged() ? row : call.keys * row;
    if (!r.shared_batch && !p.is_ragged()) at.batch = heads * call.keys * row;
    return with_padding(random_numbers(batch * heads * call.keys * width, seed, r.type), width);
  };
  call.state = queries_with_padding(r, r.depth);
  p.state = with_padding(random_numbers(r.rows() * r.depth, 1, r.type), r.depth);
  p.stored = patterns(call.stored, r.depth, 2);
  p.has_values = r.width > 0;
  if (p.has_values) p.values = patterns(call.values, r.width, 3);
  if (r.key_bias) draw_key_bias(r, p);
  if (!p.key_bias.empty() && !r.shared_batch && !p.is_ragged()) call.key_bias_batch = r.keys;
  if (r.mask != ScoreMask::Kind::none) draw_mask(r, p);
  for (int64_t h = 0; h < r.heads; ++h) {
    p.beta.push_back(r.beta_of(h));
    p.steps_max.push_back(r.steps_of(h));
    p.eps.push_back(r.eps_of(h));
  }
  return p;
}

/// A call and its results in the device's memory. What is not written holds NaN.
class RetrievalOnDevice {
 public:
  RetrievalOnDevice(const Retrieval& r, const PlainCall& p) : r_(r) {
    static_cast<Call&>(call) = p.call;
    call.state.data = typed(p.state);
    call.stored.data = typed(p.stored);
    if (r.width > 0) call.values.data = typed(p.values);
    if (p.is_ragged()) call.offsets = keep(p.offsets);
    if (r.key_bias) call.key_bias = keep(as_floats(p.key_bias));
    call.mask.data = r.mask == ScoreMask::Kind::boolean
                         ? static_cast<const void*>(keep(std::vector<uint8_t>(p.mask.begin(), p.mask.end())))
                         : keep(as_floats(p.mask));
    call.beta = keep(as_floats(p.beta));
    call.steps_max = keep(p.steps_max);
    call.eps = keep(as_floats(p.eps));
    call.plain_float32 = r.plain;
    call.exact_states = std::any_of(p.eps.begin(), p.eps.end(), [](double value) { return value > 0; });
    out.output = result(call.width);
    out.state = result(call.depth);
    out.logsumexp = floats(1);
    out.residual = floats(1);
    out.steps = keep(std::vector<int64_t>(rows(), -1));
    converged_ = keep(std::vector<uint8_t>(rows(), 7));
    out.converged = reinterpret_cast<bool*>(converged_);
    out.scores = keep(std::vector<float>(scores_size(), kNan));
    out.score_batch = p.is_ragged() ? 0 : r.heads * r.queries * r.keys;
    out.score_head = p.is_ragged() ? r.queries : r.queries * r.keys;
    out.score_query = p.is_ragged() ? 1 : r.keys;
    out.score_key = p.is_ragged() ? r.heads * r.queries : 1;
    out.saved.states = poison(r.steps * retrieve_saved_row(call));
    if (call.exact_states && r.type != ElementType::float32) {
      out.saved.rounding_error = poison(r.steps * retrieve_saved_row(call));
    }
    out.saved.sums = floats(2 * (r.steps + 1));
    workspace = workspace_of(retrieve_workspace_size(call));
  }

  void forward() const { require_success(retrieve_forward(call, out, workspace, nullptr)); }

  static void require_success(const std::string& error) {
    if (!error.empty()) throw std::runtime_error(error);
  }

  size_t rows() const { return static_cast<size_t>(r_.rows()); }
  size_t scores_size() const {
    return static_cast<size_t>(r_.heads * r_.queries * call.keys * (call.is_ragged() ? 1 : r_.batch));
  }
  size_t element_size() const { return hopfield::testing::size_of(r_.type); }

  /// Memory that lives as long as this object.
  template <class T>
  T* keep(const std::vector<T>& values) {
    const auto array = std::make_shared<DeviceArray<T>>(values);
    kept_.push_back(array);
    return array->data();
  }
  void* typed(const std::vector<double>& values) { return keep(hopfield::testing::to_type(values, r_.type)); }
  void* workspace_of(size_t bytes) { return keep(std::vector<unsigned char>(bytes, 0xFF)); }
  float* floats(int64_t width) { return keep(std::vector<float>(rows() * static_cast<size_t>(width), kNan)); }
  void* poison(int64_t width) { return workspace_of(rows() * static_cast<size_t>(width) * element_size()); }
  /// A result [batch, heads, queries, width], which lies in memory as [batch, queries, heads, width].
  Strided result(int64_t width) { return {poison(width), r_.queries * r_.heads * width, width, r_.heads * width}; }

  /// A result in its order [rows, width].
  std::vector<double> download(const Strided& tensor, int64_t width) const {
    const auto array = download_typed(tensor.data, rows() * static_cast<size_t>(width));
    return hopfield::testing::in_order(array, tensor, {r_.batch, r_.heads, r_.queries, width});
  }
  std::vector<double> download_typed(const void* data, size_t size) const {
    const auto bytes = download(static_cast<const unsigned char*>(data), size * element_size());
    return hopfield::testing::from_type(bytes.data(), size, r_.type);
  }
  std::vector<double> download_floats(const float* data, size_t size) const {
    const auto values = download(data, size);
    return {values.begin(), values.end()};
  }
  /// The states in float32 [rows, depth], with which the workspace begins.
  /// @param array  number of the array, where there are two
  std::vector<double> download_states(int64_t array = 0) const {
    const auto size = rows() * static_cast<size_t>(r_.depth);
    return download_floats(static_cast<const float*>(workspace) + static_cast<size_t>(array) * size, size);
  }
  std::vector<uint8_t> download_converged() const { return download(converged_, rows()); }
  template <class T>
  static std::vector<T> download(const T* data, size_t size) {
    std::vector<T> values(size);
#if defined(__CUDACC__)
    cuda::require_success(cudaDeviceSynchronize());
    cuda::require_success(cudaMemcpy(values.data(), data, size * sizeof(T), cudaMemcpyDeviceToHost));
#else
    if (size > 0) std::memcpy(values.data(), data, size * sizeof(T));
#endif
    return values;
  }

  RetrieveCall call;
  Outputs out;
  void* workspace = nullptr;

 private:
  static constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

  const Retrieval r_;
  std::vector<std::shared_ptr<void>> kept_;
  uint8_t* converged_ = nullptr;
};

/// What results may be off by, as a part of numbers above 1. In float32, tensor cores cut off the sums that scores are
/// made of, which moves scores of a few units by about 1e-5 and the states by as much in each update; exponentials add
/// kExp2Error. Of 16 bits, roundings count: of the weights in each association, of the states and of the output, in
/// calls of up to two updates. The device arithmetic of the host, which has the largest errors that are documented,
/// uses half of the bound of float32.
inline double tolerance_of(ElementType type) {
  return type == ElementType::float32 ? 2e-5 : 5 * hopfield::testing::rounding_of(type);
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
