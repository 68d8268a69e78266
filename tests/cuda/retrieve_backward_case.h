#pragma once

// The derivative of retrieval's formula in float64, and what backward makes of it.

#include "retrieve_case.h"

namespace hopfield::kernels::cuda {

/// dL of L = <output, weights> + <final state, weights> + <logsumexp, weights>.
struct Weights {
  std::vector<double> output, state, logsumexp;
};

struct Gradients {
  std::vector<double> query, stored, values, beta;
};

/// The derivative, with the steps that the device made: where they end is not to be found out twice.
class Formula {
 public:
  Formula(const Retrieval& r, const Patterns& p, const std::vector<int64_t>& steps, int64_t last)
      : r_(r), p_(p), steps_(steps), last_(last) {
    const auto size = [](int64_t count) { return static_cast<size_t>(count); };
    g_.query.assign(size(r.rows() * r.depth), 0);
    g_.stored.assign(p.stored.size(), 0);
    g_.values.assign(p.values.size(), 0);
    g_.beta.assign(size(r.rows()), 0);
  }

  Gradients differentiate(const Weights& w) {
    for (int64_t row = 0; row < r_.rows(); ++row) {
      const int64_t steps = steps_[static_cast<size_t>(row)];
      std::vector<double> state(static_cast<size_t>(r_.depth));
      for (int64_t k = 0; k < r_.depth; ++k) state[k] = p_.state[row * r_.depth + k];
      std::vector<Association> passed;
      for (int64_t step = 0; step <= steps; ++step) {
        passed.push_back(associate(r_, p_, row, state, step == steps));
        state = passed.back().read;
      }
      std::vector<double> gradient(static_cast<size_t>(r_.depth));
      for (int64_t k = 0; k < r_.depth; ++k) gradient[k] = w.state.empty() ? 0 : w.state[row * r_.depth + k];
      const auto width = r_.value_width();
      const std::vector<double> incoming(w.output.begin() + row * width, w.output.begin() + (row + 1) * width);
      const auto of_output = back(row, passed.back(), incoming, w.logsumexp.empty() ? 0 : w.logsumexp[row], true);
      for (int64_t k = 0; k < r_.depth; ++k) gradient[k] += of_output[k];
      for (int64_t step = steps - 1; step >= std::max<int64_t>(steps - last_, 0); --step) {
        gradient = back(row, passed[step], gradient, 0, false);
      }
      for (int64_t k = 0; k < r_.depth; ++k) g_.query[row * r_.depth + k] = steps >= last_ ? 0 : gradient[k];
    }
    return g_;
  }

 private:
  int64_t batch(int64_t row) const { return row / (r_.heads * r_.queries); }
  int64_t head(int64_t row) const { return row / r_.queries % r_.heads; }

  std::vector<double> back(int64_t row, const Association& a, const std::vector<double>& incoming, double of_sum,
                           bool last) {
    const int64_t n = batch(row), h = head(row), first = r_.range(n).first;
    const auto keys = static_cast<int64_t>(a.weights.size()), width = static_cast<int64_t>(incoming.size());
    const bool values = last && r_.width > 0;
    const auto& patterns = values ? p_.values : p_.stored;
    auto& to = values ? g_.values : g_.stored;
    std::vector<double> of_weights(a.weights.size(), 0), result(static_cast<size_t>(r_.depth), 0);
    double mean = 0;
    for (int64_t i = 0; i < keys; ++i) {
      if (a.weights[i] == 0) continue;
      for (int64_t k = 0; k < width; ++k) {
        const auto at = r_.pattern(n, h, first + i, width) + k;
        of_weights[i] += incoming[k] * patterns[at] * a.factors[i];
        to[at] += a.weights[i] * a.factors[i] * incoming[k];
      }
      mean += a.weights[i] * of_weights[i];
    }
    for (int64_t i = 0; i < keys; ++i) {
      if (a.weights[i] == 0) continue;
      const double of_score = a.weights[i] * (of_weights[i] - mean + of_sum);
      for (int64_t k = 0; k < r_.depth; ++k) {
        const auto at = r_.pattern(n, h, first + i, r_.depth) + k;
        g_.stored[at] += r_.beta_of(h) * of_score * a.state[k];
        g_.beta[row] += of_score * a.state[k] * p_.stored[at];
        result[k] += r_.beta_of(h) * of_score * p_.stored[at];
      }
    }
    return result;
  }

  const Retrieval& r_;
  const Patterns& p_;
  const std::vector<int64_t>& steps_;
  const int64_t last_;
  Gradients g_;
};

/// Runs backward on what forward left. All results hold NaN before.
inline Gradients run_backward(RetrievalOnDevice& device, const Retrieval& r, const Weights& w, int64_t last) {
  const auto& call = device.call;
  const auto depth = static_cast<size_t>(r.depth), rows = device.rows();
  const auto size = static_cast<size_t>(r.type == ElementType::float32 ? 4 : 2);
  RetrieveGradients g;
  g.output = device.keep(w.output, r.value_width(), r.heads * r.queries, r.queries);
  if (!w.state.empty()) g.state = device.keep(w.state, r.depth, r.heads * r.queries, r.queries);
  if (!w.logsumexp.empty()) g.logsumexp = device.keep(as_floats(w.logsumexp));
  g.saved = device.out.saved;
  g.steps = device.out.steps;
  g.last_steps = last;
  g.passed = device.typed(r.steps * retrieve_saved_row(call));
  g.marks = device.floats(4 * (r.steps + 1));
  g.query = device.typed(r.depth);
  g.beta = device.floats(1);
  const auto form = pattern_gradient_form(call);
  const bool ragged = !r.bags.empty();
  const auto patterns = [&](int64_t width, int64_t& part) {
    const int64_t heads = form.all_heads ? 1 : r.heads, batch = form.all_batch || ragged ? 1 : r.batch;
    part = batch * heads * r.all_keys() * width;
    const auto bytes = static_cast<size_t>(part * form.parts) * (form.parts > 1 ? 4 : size);
    return PatternGradient{device.keep(std::vector<unsigned char>(bytes, 0xFF)), ragged ? 0 : heads * r.keys * width,
                           r.heads_in_rows() ? width : r.keys * width, r.heads_in_rows() ? heads * width : width};
  };
  g.stored = patterns(r.depth, g.stored_size);
  if (r.width > 0) g.values = patterns(r.width, g.values_size);
  const auto error = retrieve_backward(call, g, nullptr);
  if (!error.empty()) throw std::runtime_error(error);
  Gradients found;
  found.query = device.download_typed(g.query, rows * depth);
  found.beta = device.download_floats(g.beta, rows);
  const auto sum_of_parts = [&](const PatternGradient& gradient, int64_t part) {
    if (form.parts == 1) return device.download_typed(gradient.data, static_cast<size_t>(part));
    const auto all =
        device.download_floats(static_cast<const float*>(gradient.data), static_cast<size_t>(part * form.parts));
    std::vector<double> sum(static_cast<size_t>(part), 0);
    for (size_t i = 0; i < all.size(); ++i) sum[i % sum.size()] += all[i];
    return sum;
  };
  found.stored = sum_of_parts(g.stored, g.stored_size);
  if (r.width > 0) found.values = sum_of_parts(g.values, g.values_size);
  return found;
}

inline void expect_close(const std::vector<double>& found, const std::vector<double>& reference, double tolerance,
                         const char* name) {
  ASSERT_EQ(found.size(), reference.size()) << name;
  double largest = 1e-6;
  for (const auto value : reference) largest = std::max(largest, std::abs(value));
  for (size_t i = 0; i < found.size(); ++i) {
    ASSERT_NEAR(found[i], reference[i], tolerance * largest) << name << " " << i << " of " << found.size();
  }
}

constexpr int64_t kAllSteps = std::numeric_limits<int64_t>::max();

/// Numbers that the type has.
inline std::vector<double> random_weights(int64_t count, uint32_t seed, ElementType type) {
  auto values = random_doubles(count, seed);
  for (auto& value : values) value = rounded(static_cast<float>(value), type);
  return values;
}

/// Runs `forward` on the call on the device and then backward.
template <class Forward>
void check_backward(const Retrieval& r, const Forward& forward, int64_t last = kAllSteps, bool output_alone = false) {
  const auto patterns = draw(r);
  Weights w{random_weights(r.rows() * r.value_width(), 11, r.type), {}, {}};
  if (!output_alone) {
    w.state = random_weights(r.rows() * r.depth, 12, r.type);
    w.logsumexp = random_weights(r.rows(), 13, r.type);
  }
  RetrievalOnDevice device(r, patterns);
  forward(device);
  const auto found = run_backward(device, r, w, last);
  const auto steps = device.download(device.out.steps, device.rows());
  const auto reference = Formula(r, patterns, steps, last).differentiate(w);
  const double tolerance = r.type == ElementType::bfloat16 ? 3e-2 : r.type == ElementType::float16 ? 4e-3 : 3e-5;
  expect_close(found.query, reference.query, tolerance, "query");
  expect_close(found.beta, reference.beta, tolerance, "beta");
  expect_close(found.stored, reference.stored, tolerance, "stored");
  expect_close(found.values, reference.values, tolerance, "values");
}

}  // namespace hopfield::kernels::cuda
