#include "plain_oracle.h"

#include "element_types.h"

#include <kernels/philox.h>

#include <algorithm>
#include <cmath>
#include <utility>

namespace hopfield::testing {
namespace {

using kernels::ElementType;
using kernels::ScoreMask;
using kernels::Strided;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

size_t size(int64_t count) { return static_cast<size_t>(count); }

double product(const double* x, const double* y, int64_t width) {
  double sum = 0;
  for (int64_t k = 0; k < width; ++k) sum += x[k] * y[k];
  return sum;
}

/// Applies the core of LayerNorm to a row.
void normalize(double* row, int64_t width, double eps) {
  const auto count = static_cast<double>(width);
  double mean = 0, variance = 0;
  for (int64_t k = 0; k < width; ++k) mean += row[k] / count;
  for (int64_t k = 0; k < width; ++k) variance += (row[k] - mean) * (row[k] - mean) / count;
  for (int64_t k = 0; k < width; ++k) row[k] = (row[k] - mean) / std::sqrt(variance + eps);
}

}  // namespace

std::vector<double> in_order(const std::vector<double>& array, const Strided& strides, std::array<int64_t, 4> extents) {
  if (strides.batch == 0) extents[0] = 1;
  if (strides.head == 0) extents[1] = 1;
  std::vector<double> result;
  for (int64_t n = 0; n < extents[0]; ++n) {
    for (int64_t h = 0; h < extents[1]; ++h) {
      for (int64_t row = 0; row < extents[2]; ++row) {
        const auto* from = array.data() + n * strides.batch + h * strides.head + row * strides.row;
        result.insert(result.end(), from, from + extents[3]);
      }
    }
  }
  return result;
}

PlainOracle::PlainOracle(PlainCall call) : c_(std::move(call)) {
  if (!c_.is_pool() || !c_.call.map.normalize) return;
  for (int64_t i = 0; i < c_.call.keys; ++i) {
    normalize(&c_.stored[size(i * c_.call.stored.row)], c_.call.width, c_.call.map.normalize_eps);
  }
}

PlainOracle::Row PlainOracle::place(int64_t row) const {
  return {row / (c_.call.heads * c_.call.queries), row / c_.call.queries % c_.call.heads, row % c_.call.queries};
}

std::vector<double> PlainOracle::first_state(int64_t row) const {
  const auto at = place(row);
  const auto* from =
      c_.state.data() + at.batch * c_.call.state.batch + at.head * c_.call.state.head + at.query * c_.call.state.row;
  return {from, from + c_.call.depth};
}

std::vector<double> PlainOracle::next_state(int64_t row, const PlainAssociation& found) const {
  if (!c_.is_pool()) return found.read;
  const auto depth = c_.call.depth, width = c_.call.width, first = place(row).head * depth;
  std::vector<double> next;
  for (int64_t j = first; j < first + depth; ++j) {
    const double bias = c_.bias.empty() ? 0 : c_.bias[size(j)];
    next.push_back(bias + product(&c_.weight[size(j * width)], found.read.data(), width));
  }
  return next;
}

int64_t PlainOracle::first_key(int64_t batch) const { return c_.is_ragged() ? c_.offsets[size(batch)] : 0; }

int64_t PlainOracle::keys(int64_t batch) const {
  return c_.is_ragged() ? c_.offsets[size(batch + 1)] - c_.offsets[size(batch)] : c_.call.keys;
}

/// What is added to a score; -inf excludes the key, which may then be anything.
double PlainOracle::bias_of(const Row& at, int64_t key) const {
  if (c_.call.is_causal && key > at.query) return -kInfinity;
  const auto& mask = c_.call.mask;
  double bias = 0;
  if (!c_.key_bias.empty()) bias = c_.key_bias[size(at.batch * c_.call.key_bias_batch + first_key(at.batch) + key)];
  if (mask.kind == ScoreMask::Kind::none) return bias;
  const double of_score =
      c_.mask[size(at.batch * mask.batch + at.head * mask.head + at.query * mask.query + key * mask.key)];
  if (mask.kind == ScoreMask::Kind::boolean) return of_score != 0 ? -kInfinity : bias;
  return bias + of_score;
}

int64_t PlainOracle::pattern(const Strided& strides, const Row& at, int64_t key) const {
  return at.batch * strides.batch + at.head * strides.head + (first_key(at.batch) + key) * strides.row;
}

PlainAssociation PlainOracle::associate(int64_t row, const std::vector<double>& state, bool reads_out) const {
  const auto& call = c_.call;
  const auto at = place(row);
  const auto count = keys(at.batch), stored_width = c_.row_width();
  PlainAssociation a;
  a.state = a.query = state;
  if (c_.is_pool()) {
    a.query.assign(size(call.width), 0);
    for (int64_t j = 0; j < call.depth; ++j) {
      const auto* weight = &c_.weight[size((at.head * call.depth + j) * call.width)];
      for (int64_t k = 0; k < call.width; ++k) a.query[size(k)] += weight[k] * state[size(j)];
    }
  }
  for (int64_t i = 0; i < count; ++i) {
    double score = bias_of(at, i);
    if (score != -kInfinity) {
      const auto* pattern_of = c_.stored.data() + pattern(call.stored, at, i);
      score += c_.beta[size(at.head)] * product(a.query.data(), pattern_of, stored_width);
    }
    a.scores.push_back(score);
    a.largest = std::max(a.largest, score);
  }
  double sum = 0;
  for (const auto score : a.scores) {
    a.weights.push_back(score == -kInfinity ? 0 : std::exp(score - a.largest));
    sum += a.weights.back();
  }
  if (sum != 0) a.logsumexp = a.largest + std::log(sum);
  for (auto& weight : a.weights) weight /= sum != 0 ? sum : 1;
  a.factors.assign(a.weights.size(), 1.0);
  for (int64_t i = 0; i < count && reads_out && call.dropout > 0; ++i) {
    const auto words =
        kernels::dropout_words(call.seed, static_cast<uint32_t>(at.batch), static_cast<uint32_t>(at.head),
                               static_cast<uint32_t>(at.query), static_cast<uint32_t>(i / 4));
    const bool drops = words[size(i % 4)] < kernels::dropout_threshold(call.dropout);
    a.factors[size(i)] = drops ? 0.0 : 1.0 / (1.0 - call.dropout);
  }
  const bool of_values = reads_out && c_.has_values;
  const auto& patterns = of_values ? c_.values : c_.stored;
  a.read.assign(size(of_values ? call.width : stored_width), 0);
  for (int64_t i = 0; i < count; ++i) {
    const double weight = a.weights[size(i)] * a.factors[size(i)];
    a.mass += weight;
    if (a.weights[size(i)] == 0) continue;  // the pattern may be anything
    const auto* from = patterns.data() + pattern(of_values ? call.values : call.stored, at, i);
    for (size_t k = 0; k < a.read.size(); ++k) a.read[k] += weight * from[k];
  }
  return a;
}

std::vector<double> PlainOracle::changes(const std::vector<PlainAssociation>& now,
                                         const std::vector<PlainAssociation>& before) const {
  const auto& call = c_.call;
  std::vector<double> largest(size(call.heads), 0);
  for (int64_t sample = 0; sample < call.batch * call.heads; ++sample) {
    double square = 0;
    for (int64_t row = sample * call.queries; row < (sample + 1) * call.queries; ++row) {
      const auto &to = now[size(row)].weights, &from = before[size(row)].weights;
      double of_row = 0;
      for (size_t i = 0; i < to.size(); ++i) of_row += (to[i] - from[i]) * (to[i] - from[i]);
      if (std::isfinite(of_row)) square += of_row;
    }
    auto& of_head = largest[size(sample % call.heads)];
    of_head = std::max(of_head, std::sqrt(square));
  }
  return largest;
}

PlainResult PlainOracle::forward(bool rounds_states, const std::vector<int64_t>& made) const {
  const auto& call = c_.call;
  PlainResult result;
  result.scores.assign(size(call.heads * call.queries * call.keys * (c_.is_ragged() ? 1 : call.batch)), 0.0);
  if (call.per_head) {
    follow_heads(made, result);
  } else {
    follow_queries(rounds_states, made, result);
  }
  return result;
}

bool PlainOracle::decides_clearly(double margin) const {
  const auto steps = [&](double change) {
    auto other = c_;
    for (auto& eps : other.eps) eps = eps > 0 ? std::max(eps + change, 1e-300) : eps;
    return PlainOracle(other).forward().steps;
  };
  return steps(margin) == steps(-margin);
}

void PlainOracle::follow_queries(bool rounds_states, const std::vector<int64_t>& made, PlainResult& result) const {
  const auto& call = c_.call;
  const auto rows = call.rows();
  result.saved_states.assign(size(call.most_steps * rows * call.depth), 0.0);
  result.largest_scores.assign(size((call.most_steps + 1) * rows), std::nan(""));
  result.exponential_sums = result.largest_scores;
  for (int64_t row = 0; row < rows; ++row) {
    const auto head = size(place(row).head);
    auto state = first_state(row);
    const auto look = [&](int64_t step, bool reads_out) {
      auto asks = state;
      for (auto& value : asks) value = rounds_states ? rounded(static_cast<float>(value), call.type) : value;
      auto a = associate(row, asks, reads_out);
      result.largest_scores[size(step * rows + row)] = a.largest;
      result.exponential_sums[size(step * rows + row)] =
          a.largest == -kInfinity ? 0.0 : std::exp(a.logsumexp - a.largest);
      return a;
    };
    double residual = std::nan("");
    const auto most = made.empty() ? c_.steps_max[head] : made[size(row)];
    int64_t steps = 0;
    bool frozen = false;
    for (int64_t step = 0; step < call.most_steps; ++step) {
      if (!frozen && step < most) {
        const auto a = look(step, false);
        frozen = a.logsumexp == -kInfinity;
        residual = 0;
        if (!frozen) {
          const auto next = next_state(row, a);
          for (size_t k = 0; k < next.size(); ++k) residual += (next[k] - state[k]) * (next[k] - state[k]);
          residual = std::sqrt(residual);
          state = next;
          ++steps;
          frozen = made.empty() && c_.eps[head] > 0 && residual <= c_.eps[head];
        }
      }
      std::copy(state.begin(), state.end(), result.saved_states.begin() + (step * rows + row) * call.depth);
    }
    const auto last = look(call.most_steps, true);
    result.state.insert(result.state.end(), state.begin(), state.end());
    result.residual.push_back(last.logsumexp == -kInfinity ? 0.0 : residual);
    result.steps.push_back(steps);
    read_out(row, last, result);
  }
}

void PlainOracle::follow_heads(const std::vector<int64_t>& made, PlainResult& result) const {
  const auto& call = c_.call;
  const auto rows = call.rows();
  const auto head_of = [&](int64_t row) { return size(place(row).head); };
  std::vector<std::vector<double>> states;
  for (int64_t row = 0; row < rows; ++row) states.push_back(first_state(row));
  std::vector<int64_t> steps(size(call.heads), -1);
  std::vector<double> residuals(size(call.heads), std::nan(""));
  std::vector<PlainAssociation> now, before;
  for (int64_t step = 0; step <= call.most_steps; ++step) {
    before = std::move(now);
    now.clear();
    for (int64_t row = 0; row < rows; ++row) now.push_back(associate(row, states[size(row)], false));
    const auto norms = step > 0 ? changes(now, before) : residuals;
    for (size_t h = 0; h < steps.size(); ++h) {
      if (steps[h] >= 0) continue;
      residuals[h] = norms[h];
      const bool small = step > 0 && c_.eps[h] > 0 && norms[h] <= c_.eps[h];
      if (made.empty() ? small || step >= c_.steps_max[h] : step == made[h]) steps[h] = step;
    }
    for (int64_t row = 0; row < rows; ++row) {
      const auto& a = now[size(row)];
      if (steps[head_of(row)] < 0 && a.logsumexp != -kInfinity) states[size(row)] = next_state(row, a);
    }
  }
  for (int64_t row = 0; row < rows; ++row) {
    const auto& state = states[size(row)];
    const auto last = associate(row, state, true);
    const bool dead = last.logsumexp == -kInfinity;
    result.state.insert(result.state.end(), state.begin(), state.end());
    result.residual.push_back(dead ? 0 : residuals[head_of(row)]);
    result.steps.push_back(dead ? 0 : steps[head_of(row)]);
    read_out(row, last, result);
  }
}

void PlainOracle::read_out(int64_t row, const PlainAssociation& last, PlainResult& result) const {
  const auto& call = c_.call;
  const auto at = place(row);
  result.output.insert(result.output.end(), last.read.begin(), last.read.end());
  result.logsumexp.push_back(last.logsumexp);
  result.mass.push_back(last.mass);
  for (size_t i = 0; i < last.scores.size(); ++i) {
    const auto key = first_key(at.batch) + static_cast<int64_t>(i);
    const auto to = c_.is_ragged() ? (key * call.heads + at.head) * call.queries + at.query : row * call.keys + key;
    result.scores[size(to)] = last.scores[i];
  }
}

PlainGradient PlainOracle::backward(const PlainLoss& loss, const std::vector<int64_t>& steps,
                                    int64_t last_steps) const {
  const auto& call = c_.call;
  PlainGradient gradient;
  gradient.query.assign(size(call.rows() * call.depth), 0);
  gradient.beta.assign(size(call.rows()), 0);
  gradient.stored.assign(c_.stored.size(), 0);
  gradient.values.assign(c_.values.size(), 0);
  for (int64_t row = 0; row < call.rows(); ++row) {
    const auto made = steps[size(row)];
    auto state = first_state(row);
    std::vector<PlainAssociation> passed;
    for (int64_t step = 0; step <= made; ++step) {
      passed.push_back(associate(row, state, step == made));
      if (step < made) state = next_state(row, passed.back());
    }
    const auto* of_output = loss.output.data() + row * call.width;
    auto incoming = pass_back(row, passed.back(), {of_output, of_output + call.width},
                              loss.logsumexp.empty() ? 0 : loss.logsumexp[size(row)], c_.has_values, gradient);
    for (int64_t k = 0; k < call.depth && !loss.state.empty(); ++k) {
      incoming[size(k)] += loss.state[size(row * call.depth + k)];
    }
    for (auto step = made - 1; step >= std::max<int64_t>(made - last_steps, 0); --step) {
      incoming = pass_back(row, passed[size(step)], incoming, 0, false, gradient);
    }
    if (made >= last_steps) continue;  // the first state is a constant
    std::copy(incoming.begin(), incoming.end(), gradient.query.begin() + row * call.depth);
  }
  return gradient;
}

/// From the gradient of what an association read to that of its state.
std::vector<double> PlainOracle::pass_back(int64_t row, const PlainAssociation& through,
                                           const std::vector<double>& incoming, double of_logsumexp, bool of_values,
                                           PlainGradient& gradient) const {
  const auto& call = c_.call;
  const auto at = place(row);
  const double beta = c_.beta[size(at.head)];
  const auto& patterns = of_values ? c_.values : c_.stored;
  auto& of_patterns = of_values ? gradient.values : gradient.stored;
  const auto count = static_cast<int64_t>(through.weights.size());
  std::vector<double> of_weights(through.weights.size(), 0), result(size(call.depth), 0);
  double mean = 0;
  for (int64_t i = 0; i < count; ++i) {
    const double weight = through.weights[size(i)], factor = through.factors[size(i)];
    if (weight == 0) continue;
    const auto from = pattern(of_values ? call.values : call.stored, at, i);
    for (size_t k = 0; k < incoming.size(); ++k) {
      of_weights[size(i)] += incoming[k] * patterns[size(from) + k] * factor;
      of_patterns[size(from) + k] += weight * factor * incoming[k];
    }
    mean += weight * of_weights[size(i)];
  }
  for (int64_t i = 0; i < count; ++i) {
    if (through.weights[size(i)] == 0) continue;
    const double of_score = through.weights[size(i)] * (of_weights[size(i)] - mean + of_logsumexp);
    const auto from = size(pattern(call.stored, at, i));
    for (size_t k = 0; k < result.size(); ++k) {
      gradient.stored[from + k] += beta * of_score * through.state[k];
      gradient.beta[size(row)] += of_score * through.state[k] * c_.stored[from + k];
      result[k] += beta * of_score * c_.stored[from + k];
    }
  }
  return result;
}

}  // namespace hopfield::testing
