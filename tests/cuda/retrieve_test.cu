// Attention-like retrieval against the formula in float64.

#include "pool_case.h"  // random numbers, rounding, types

#include <kernels/cuda/retrieve.h>

namespace hopfield::kernels::cuda {
namespace {

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

  int64_t rows() const { return batch * heads * queries; }
  int64_t value_width() const { return width > 0 ? width : depth; }
  int64_t sets() const { return (shared_batch || !bags.empty() ? 1 : batch) * (shared_heads ? 1 : heads); }
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
    if (!bags.empty()) return (key * own_heads + head) * of_width;
    return (((shared_batch ? 0 : n) * own_heads + head) * keys + key) * of_width;
  }
  int64_t mask_at(int64_t n, int64_t h, int64_t l, int64_t key) const {
    return (mask_of_head ? (n * heads + h) * queries + l : n) * keys + key;
  }
};

struct Patterns {
  std::vector<double> state, stored, values, key_bias, mask;
};

Patterns draw(const Retrieval& r) {
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

struct Found {
  std::vector<double> output, state, logsumexp, residual, scores, sums;
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

std::vector<double> from_type(const std::vector<unsigned char>& bytes, ElementType type) {
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

/// Rows of 16 bytes, the room behind the width NaN: it belongs to somebody else.
DeviceArray<unsigned char> patterns_on_device(const std::vector<double>& values, int64_t width, int64_t row,
                                              ElementType type) {
  const auto rows = width > 0 ? static_cast<int64_t>(values.size()) / width : 0;
  std::vector<float> with_room(static_cast<size_t>(rows * row), std::numeric_limits<float>::quiet_NaN());
  for (int64_t i = 0; i < rows * width; ++i) with_room[i / width * row + i % width] = static_cast<float>(values[i]);
  return DeviceArray<unsigned char>(as_type(with_room, type));
}

Found run(const Retrieval& r, const Patterns& p) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const auto rows = static_cast<size_t>(r.rows()), size = static_cast<size_t>(r.type == ElementType::float32 ? 4 : 2);
  const int64_t stored_row = (r.depth + 7) / 8 * 8, value_row = (r.width + 7) / 8 * 8;
  const int64_t own_heads = r.shared_heads ? 1 : r.heads;
  const auto strided = [&](const DeviceArray<unsigned char>& array, int64_t row) {
    const bool ragged = !r.bags.empty();
    Strided s{array.data(), 0, 0, ragged ? own_heads * row : row};
    if (!r.shared_heads) s.head = ragged ? row : r.keys * row;
    if (!ragged && !r.shared_batch) s.batch = own_heads * r.keys * row;
    return s;
  };
  const auto stored = patterns_on_device(p.stored, r.depth, stored_row, r.type),
             values = patterns_on_device(p.values, r.width, value_row, r.type),
             state = patterns_on_device(p.state, r.depth, r.depth, r.type);
  std::vector<int64_t> places{0};
  for (const auto bag : r.bags) places.push_back(places.back() + bag);
  const DeviceArray<int64_t> offsets(places), steps_max(static_cast<size_t>(r.heads), r.steps), steps(rows, -1);
  const DeviceArray<float> key_bias(as_floats(p.key_bias)), mask(as_floats(p.mask)),
      beta(static_cast<size_t>(r.heads), static_cast<float>(r.beta)), eps(static_cast<size_t>(r.heads), r.eps);
  const DeviceArray<uint8_t> booleans(std::vector<uint8_t>(p.mask.begin(), p.mask.end())), converged(rows, 7);
  const DeviceArray<unsigned char> output(rows * static_cast<size_t>(r.value_width()) * size, 0xFF),
      final_state(rows * static_cast<size_t>(r.depth) * size, 0xFF);
  const DeviceArray<float> logsumexp(rows, nan), residual(rows, nan), states(rows * static_cast<size_t>(r.depth), nan),
      scores(static_cast<size_t>(r.heads * r.queries * (r.bags.empty() ? r.batch : 1) * r.all_keys()), nan),
      saved_states(rows * static_cast<size_t>(r.steps * r.depth), nan),
      saved_sums(rows * static_cast<size_t>(2 * (r.steps + 1)), nan),
      saved_output(rows * static_cast<size_t>(r.value_width()), nan);
  RetrieveCall call;
  call.batch = r.batch;
  call.heads = r.heads;
  call.queries = r.queries;
  call.keys = r.all_keys();
  call.depth = r.depth;
  call.width = r.value_width();
  call.state = {state.data(), r.heads * r.queries * r.depth, r.queries * r.depth, r.depth};
  call.stored = strided(stored, stored_row);
  if (r.width > 0) call.values = strided(values, value_row);
  if (!r.bags.empty()) call.offsets = offsets.data();
  if (r.key_bias) {
    call.key_bias = key_bias.data();
    if (r.bags.empty() && !r.shared_batch) call.key_bias_batch = r.keys;
  }
  call.mask.kind = r.mask;
  call.mask.data = r.mask == ScoreMask::Kind::boolean ? static_cast<const void*>(booleans.data()) : mask.data();
  call.mask.batch = r.mask_at(1, 0, 0, 0);
  call.mask.head = r.mask_of_head ? r.mask_at(0, 1, 0, 0) : 0;
  call.mask.query = r.mask_of_head ? r.mask_at(0, 0, 1, 0) : 0;
  call.mask.key = 1;
  call.beta = beta.data();
  call.steps_max = steps_max.data();
  call.eps = eps.data();
  call.dropout = r.dropout;
  call.seed = kSeed;
  call.most_steps = r.steps;
  call.type = r.type;
  call.plain_float32 = r.plain;
  call.exact_states = r.eps > 0;
  RetrieveOutputs out{};
  out.output = output.data();
  out.state = final_state.data();
  out.logsumexp = logsumexp.data();
  out.residual = residual.data();
  out.steps = steps.data();
  out.converged = converged.data();
  out.states = states.data();
  out.scores = scores.data();
  if (r.bags.empty()) {
    out.score_batch = r.heads * r.queries * r.keys;
    out.score_head = r.queries * r.keys;
    out.score_query = r.keys;
    out.score_key = 1;
  } else {
    out.score_head = r.queries;
    out.score_query = 1;
    out.score_key = r.heads * r.queries;
  }
  out.saved_states = saved_states.data();
  out.saved_sums = saved_sums.data();
  out.saved_output = saved_output.data();
  const auto error = retrieve_forward(call, out, nullptr);
  if (!error.empty()) throw std::runtime_error(error);
  const auto doubles = [](const DeviceArray<float>& array) {
    const auto floats = array.download();
    return std::vector<double>(floats.begin(), floats.end());
  };
  Found found;
  found.output = doubles(saved_output);
  found.state = doubles(states);
  found.logsumexp = doubles(logsumexp);
  found.residual = doubles(residual);
  found.scores = doubles(scores);
  found.sums = doubles(saved_sums);
  found.steps = steps.download();
  // What is written in the type is the same, rounded; what is saved is what was found.
  const auto typed = from_type(output.download(), r.type), typed_state = from_type(final_state.download(), r.type);
  for (size_t i = 0; i < typed.size(); ++i) {
    EXPECT_EQ(typed[i], rounded(static_cast<float>(found.output[i]), r.type)) << i;
  }
  for (size_t i = 0; i < typed_state.size(); ++i) {
    EXPECT_EQ(typed_state[i], rounded(static_cast<float>(found.state[i]), r.type)) << i;
  }
  if (r.steps > 0) {
    const auto saved = doubles(saved_states);
    const auto begin = static_cast<std::ptrdiff_t>(saved.size() - found.state.size());
    EXPECT_TRUE(std::equal(saved.begin() + begin, saved.end(), found.state.begin()));
  }
  return found;
}

void expect_near(const std::vector<double>& found, const std::vector<double>& reference, double tolerance,
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
