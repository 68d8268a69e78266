// These tests run the CPU's kernels without LibTorch: they compare them with loops in float64, and run them with many
// threads, which the preset tsan watches.

#include "support/naive_query.h"
#include "support/naive_separation.h"

#include <gtest/gtest.h>
#include <kernels/cpu/retrieve.h>

#include <atomic>
#include <cmath>
#include <random>
#include <thread>
#include <vector>

namespace hopfield::kernels {
namespace {

Parallel threads(int count) {
  return [count](int64_t tasks, const std::function<void(int64_t)>& call) {
    std::atomic<int64_t> next{0};
    std::vector<std::thread> pool;
    for (int i = 0; i < count; ++i) {
      pool.emplace_back([&] {
        for (auto task = next++; task < tasks; task = next++) call(task);
      });
    }
    for (auto& thread : pool) thread.join();
  };
}

std::vector<float> random_numbers(int64_t count, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> numbers(static_cast<size_t>(count));
  for (auto& number : numbers) number = normal(random);
  return numbers;
}

/// A dense call of everything in float32, and memory for its results.
struct DenseCall {
  DenseCall(int64_t batch, int64_t heads, int64_t queries, int64_t keys, int64_t depth, int64_t width, int64_t steps,
            bool shared)
      : rows(batch * heads * queries),
        steps_of_heads(static_cast<size_t>(heads), steps),
        beta(static_cast<size_t>(heads), 0.5f),
        eps(static_cast<size_t>(heads), 0.0f) {
    const auto sets = shared ? 1 : batch * heads;
    state = random_numbers(rows * depth, 1);
    stored = random_numbers(sets * keys * depth, 2);
    values = random_numbers(sets * keys * width, 3);
    gradient = random_numbers(rows * width, 4);
    p.batch = batch, p.heads = heads, p.queries = queries, p.keys = keys, p.depth = depth, p.width = width;
    p.state = {state.data(), heads * queries * depth, queries * depth, depth};
    const auto shared_tensor = [&](std::vector<float>& data, int64_t size) {
      return shared ? Strided{data.data(), 0, 0, size} : Strided{data.data(), heads * keys * size, keys * size, size};
    };
    p.stored = shared_tensor(stored, depth);
    p.values = shared_tensor(values, width);
    p.beta = beta.data(), p.steps_max = steps_of_heads.data(), p.eps = eps.data(), p.most_steps = steps;
    const auto make = [&](std::vector<float>& data, int64_t size) { data.assign(static_cast<size_t>(size), NAN); };
    make(output, rows * width), make(final_state, rows * depth), make(logsumexp, rows), make(residual, rows);
    make(saved_states, steps * rows * depth), make(saved_sums, (steps + 1) * rows * 2),
        make(saved_output, rows * width);
    make(query_gradient, rows * depth), make(stored_gradient, sets * keys * depth);
    make(values_gradient, sets * keys * width), make(beta_gradient, rows);
    step_counts.assign(static_cast<size_t>(rows), -1);
    converged.reset(new bool[static_cast<size_t>(rows)]);
    o.output = {output.data(), heads * queries * width, queries * width, width};
    o.state = {final_state.data(), heads * queries * depth, queries * depth, depth};
    o.logsumexp = logsumexp.data(), o.residual = residual.data(), o.steps = step_counts.data();
    o.converged = converged.get();
    o.saved.states = saved_states.data(), o.saved.sums = saved_sums.data(), o.saved.output = saved_output.data();
    g.output = {gradient.data(), heads * queries * width, queries * width, width};
    g.saved = o.saved;
    g.steps = step_counts.data();
    g.query = {query_gradient.data(), heads * queries * depth, queries * depth, depth};
    g.stored = shared_tensor(stored_gradient, depth);
    g.values = shared_tensor(values_gradient, width);
    g.beta = beta_gradient.data();
  }

  void run(const Parallel& parallel) {
    retrieve_forward(p, o, parallel);
    retrieve_backward(p, g, parallel);
  }

  std::vector<const std::vector<float>*> results() const {
    return {&output, &final_state, &logsumexp, &query_gradient, &stored_gradient, &values_gradient, &beta_gradient};
  }

  int64_t rows;
  std::vector<int64_t> steps_of_heads, step_counts;
  std::vector<float> beta, eps, state, stored, values, gradient, output, final_state, logsumexp, residual, saved_states,
      saved_sums, saved_output, query_gradient, stored_gradient, values_gradient, beta_gradient;
  std::unique_ptr<bool[]> converged;
  Call p;
  Outputs o;
  Gradients g;
};

struct Sizes {
  int64_t batch, heads, queries, keys, depth, width, steps;
  bool shared;
};

// The cases are one tile with many keys, many tiles, patterns shared by all, few rows, and sizes off every edge.
const Sizes kSizes[] = {{1, 1, 3, 9000, 16, 16, 2, false},
                        {2, 2, 70, 130, 20, 7, 2, false},
                        {5, 2, 40, 600, 16, 16, 1, true},
                        {3, 2, 1, 17, 5, 3, 3, false},
                        {1, 1, 300, 1100, 16, 24, 1, false}};

/// 0 stands for softmax.
void separate_by(DenseCall& call, double alpha) {
  if (alpha == 0) return;
  call.p.separation = Separation::entmax;
  call.p.alpha = alpha;
}

TEST(RetrieveKernels, GiveTheSameBitsWithEightThreadsAsWithOne) {
  for (const double alpha : {0.0, 2.0, 1.3}) {
    for (const auto& s : kSizes) {
      DenseCall one(s.batch, s.heads, s.queries, s.keys, s.depth, s.width, s.steps, s.shared);
      DenseCall eight(s.batch, s.heads, s.queries, s.keys, s.depth, s.width, s.steps, s.shared);
      separate_by(one, alpha);
      separate_by(eight, alpha);
      one.run(threads(1));
      eight.run(threads(8));
      for (size_t i = 0; i < one.results().size(); ++i) EXPECT_EQ(*one.results()[i], *eight.results()[i]) << i;
    }
  }
}

/// The threads share one tile that has many keys, but not sixteen of them.
TEST(RetrieveKernels, GiveATileTheSameBitsAloneAndAmongOthers) {
  for (const double alpha : {0.0, 2.0, 1.3}) {
    DenseCall alone(1, 1, 3, 9000, 16, 24, 2, false), among(16, 1, 3, 9000, 16, 24, 2, false);
    // The batch elements' numbers are drawn one after the other: the first are those of the call alone.
    for (auto* call : {&alone, &among}) {
      separate_by(*call, alpha);
      call->run(threads(2));
    }
    for (size_t i = 0; i < alone.results().size(); ++i) {
      const auto& expected = *alone.results()[i];
      auto found = *among.results()[i];
      found.resize(expected.size());
      EXPECT_EQ(found, expected) << i << " " << alpha;
    }
  }
}

/// The output by loops over single numbers.
template <typename T>
std::vector<T> plain_output(const DenseCall& call, const Sizes& s) {
  std::vector<T> output;
  for (int64_t row = 0; row < call.rows; ++row) {
    const auto set = s.shared ? 0 : row / s.queries;
    const float* keys = call.stored.data() + set * s.keys * s.depth;
    const float* values = call.values.data() + set * s.keys * s.width;
    const std::vector<T> state(call.state.begin() + row * s.depth, call.state.begin() + (row + 1) * s.depth);
    const auto query = testing::naive_query<T>(
        state, [&](int64_t j, int64_t k) { return T{keys[j * s.depth + k]}; },
        [&](int64_t j, int64_t k) { return T{values[j * s.width + k]}; }, [](int64_t) { return T{0}; }, s.keys, s.width,
        T{0.5}, s.steps);
    output.insert(output.end(), query.output.begin(), query.output.end());
  }
  return output;
}

TEST(RetrieveKernels, AreAsExactAsPlainLoops) {
  for (const auto& s : kSizes) {
    DenseCall call(s.batch, s.heads, s.queries, s.keys, s.depth, s.width, s.steps, s.shared);
    call.run(threads(2));
    const auto exact = plain_output<double>(call, s);
    const auto plain = plain_output<float>(call, s);
    double error = 0, plain_error = 0;
    for (size_t i = 0; i < exact.size(); ++i) {
      error = std::max(error, std::abs(exact[i] - call.output[i]));
      plain_error = std::max(plain_error, std::abs(exact[i] - plain[i]));
    }
    EXPECT_LE(error, 2 * plain_error);
    EXPECT_GT(plain_error, 0);
  }
}

/// The output of sparse separations by loops in float64.
std::vector<double> sparse_output(const DenseCall& call, const Sizes& s, double alpha) {
  std::vector<double> output;
  for (int64_t row = 0; row < call.rows; ++row) {
    const auto set = s.shared ? 0 : row / s.queries;
    const float* keys = call.stored.data() + set * s.keys * s.depth;
    const float* values = call.values.data() + set * s.keys * s.width;
    const std::vector<double> state(call.state.begin() + row * s.depth, call.state.begin() + (row + 1) * s.depth);
    const auto separate = [alpha](std::vector<double>& scores) {
      const auto found = testing::naive_separate(scores, hopfield::Separation::entmax(alpha));
      scores = found.weights;
      return found.conjugate;
    };
    const auto query = testing::naive_query<double>(
        state, [&](int64_t j, int64_t k) { return static_cast<double>(keys[j * s.depth + k]); },
        [&](int64_t j, int64_t k) { return static_cast<double>(values[j * s.width + k]); }, [](int64_t) { return 0.0; },
        s.keys, s.width, 0.5, s.steps, separate);
    output.insert(output.end(), query.output.begin(), query.output.end());
    output.push_back(query.logsumexp);
  }
  return output;
}

TEST(RetrieveKernels, SeparateSparselyLikePlainLoops) {
  for (const double alpha : {2.0, 1.9, 1.5, 1.3, 1.01}) {
    for (const auto& s : {Sizes{1, 1, 2, 1100, 16, 16, 1, false}, Sizes{2, 1, 3, 60, 20, 7, 2, false},
                          Sizes{3, 2, 1, 17, 5, 3, 3, false}}) {
      DenseCall call(s.batch, s.heads, s.queries, s.keys, s.depth, s.width, s.steps, s.shared);
      separate_by(call, alpha);
      call.run(threads(2));
      const auto exact = sparse_output(call, s, alpha);
      for (int64_t row = 0; row < call.rows; ++row) {
        const double* expected = exact.data() + row * (s.width + 1);
        for (int64_t k = 0; k < s.width; ++k) {
          EXPECT_NEAR(call.output[row * s.width + k], expected[k], 1e-5) << alpha << " " << s.keys;
        }
        EXPECT_NEAR(call.logsumexp[row], expected[s.width], 1e-5 * (1 + std::abs(expected[s.width]))) << alpha;
      }
    }
  }
}

}  // namespace
}  // namespace hopfield::kernels
