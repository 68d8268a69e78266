// The backward pass of pooling against differences of the formula in float64.

#include "pool_case.h"

#include <kernels/cuda/pool_workspace.h>

namespace hopfield::kernels::cuda {
namespace {

/// A loss: the weighted sum of all results.
struct Loss {
  std::vector<double> output, state, logsumexp, mass;

  explicit Loss(const Sample& s) {
    const auto rows = static_cast<int64_t>(s.bags.size()) * s.heads * s.queries;
    output = random_doubles(rows * s.width, 91);
    state = random_doubles(rows * s.depth, 92);
    logsumexp = random_doubles(rows, 93);
    mass = random_doubles(rows, 94);
    for (size_t n = 0; n < s.bags.size(); ++n) {
      // The logsumexp of nothing has no gradient.
      const auto in_bag = s.heads * s.queries;
      if (s.bags[n] == 0) std::fill_n(logsumexp.begin() + static_cast<int64_t>(n) * in_bag, in_bag, 0.0);
    }
  }

  double of(const PlainResult& r) const {
    double sum = 0;
    const auto add = [&](const std::vector<double>& weights, const std::vector<double>& values) {
      for (size_t i = 0; i < weights.size(); ++i) sum += weights[i] == 0.0 ? 0.0 : weights[i] * values[i];
    };
    add(output, r.output);
    add(state, r.state);
    add(logsumexp, r.logsumexp);
    add(mass, r.mass);
    return sum;
  }
};

/// The gradient of the instances is laid out like them, with NaN in the padding.
struct Found {
  std::vector<double> stored, state, weight, bias;
  double beta = 0;
};

Found gradients(const Sample& s, const PlainCall& d, const Loss& loss) {
  const Device forward(s, d);
  const auto& call = forward.call;
  const auto rows = call.rows(), row = call.stored.row;
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const auto floats = [nan](int64_t count) { return DeviceArray<float>(static_cast<size_t>(count), nan); };
  const auto query = floats(rows * s.depth), beta = floats(rows), products = floats((s.steps + 1) * rows * s.width),
             states = floats(s.steps * rows * s.depth);
  const DeviceArray<float> output(as_floats(loss.output)), state(as_floats(loss.state)),
      logsumexp(as_floats(loss.logsumexp)), mass(as_floats(loss.mass));
  const auto size = hopfield::testing::size_of(s.type);
  const DeviceArray<unsigned char> stored(static_cast<size_t>(call.keys * row) * size, 0xFF);
  Gradients g;
  g.output.data = output.data();
  g.state.data = state.data();
  g.logsumexp = logsumexp.data();
  g.mass = mass.data();
  g.saved = forward.saved();
  g.steps = forward.steps.data();
  g.stored = {stored.data(), 0, 0, row};
  g.query.data = query.data();
  g.beta = beta.data();
  g.products = products.data();
  g.states = states.data();
  const DeviceArray<unsigned char> workspace(pool_backward_workspace_size(call, g), 0xFF);
  const auto error = pool_backward(call, g, workspace.data(), nullptr);
  if (!error.empty()) throw std::runtime_error(error);

  Found result;
  const auto bytes = stored.download();
  result.stored = hopfield::testing::from_type(bytes.data(), bytes.size() / size, s.type);
  const auto from = [](const DeviceArray<float>& array) { return array.download(); };
  const auto found_query = from(query), found_beta = from(beta), found_products = from(products),
             found_states = from(states), means = from(forward.saved_means), moved = from(forward.saved_states);
  result.state.assign(d.state.size(), 0.0);
  result.weight.assign(d.weight.size(), 0.0);
  result.bias.assign(d.bias.size(), 0.0);
  for (int64_t r = 0; r < rows; ++r) {
    const auto in_bag = r % (s.heads * s.queries), h = r / s.queries % s.heads;
    result.beta += found_beta[r];
    for (int64_t j = 0; j < s.depth; ++j) {
      result.state[in_bag * s.depth + j] += found_query[r * s.depth + j];
      for (int64_t t = 0; t <= s.steps; ++t) {
        const double xi = t == 0 ? d.state[in_bag * s.depth + j] : moved[((t - 1) * rows + r) * s.depth + j];
        const double next = t < s.steps ? found_states[(t * rows + r) * s.depth + j] : 0.0;
        if (t < s.steps && s.bias) result.bias[h * s.depth + j] += next;
        for (int64_t k = 0; k < s.width; ++k) {
          auto& to = result.weight[(h * s.depth + j) * s.width + k];
          to += s.beta * xi * found_products[(t * rows + r) * s.width + k];
          if (next != 0.0) to += next * means[(t * rows + r) * s.width + k];
        }
      }
    }
  }
  return result;
}

/// Compares a gradient with differences of the loss in float64, along random directions and single coordinates. The
/// padding of rows is NaN and does not count.
void check_gradient(const PlainCall& data, std::vector<double> PlainCall::*member, const std::vector<double>& found,
                    const Loss& loss, double tolerance, const char* name) {
  ASSERT_EQ((data.*member).size(), found.size());
  double norm = 0;
  for (const auto value : found) norm += std::isnan(value) ? 0 : value * value;
  norm = std::sqrt(norm);
  for (uint32_t trial = 0; trial < 6; ++trial) {
    auto direction = random_doubles(static_cast<int64_t>(found.size()), 1000 + trial);
    if (trial >= 3) {
      auto single = (trial - 2) * found.size() / 4;
      while (std::isnan(found[single])) ++single;
      direction.assign(direction.size(), 0.0);
      direction[single] = 1.0;
    }
    const double step = 1e-6;
    const auto at = [&](double distance) {
      auto moved = data;
      for (size_t i = 0; i < direction.size(); ++i) (moved.*member)[i] += distance * direction[i];  // NaN stays NaN
      return loss.of(PlainOracle(moved).forward());
    };
    double product = 0;
    for (size_t i = 0; i < found.size(); ++i) product += std::isnan(found[i]) ? 0 : found[i] * direction[i];
    EXPECT_NEAR(product, (at(step) - at(-step)) / (2 * step), tolerance * (norm + 1)) << name << " trial " << trial;
  }
}

void check_gradients(Sample s) {
  const auto data = draw(s);
  const Loss loss(s);
  const auto found = gradients(s, data, loss);
  // Errors are those of the forward pass (pool_test.cu), of whose results and weights the gradients are made, together
  // with those of as many products again: a few times as large. Of 16 bits, the gradients of scores are rounded to two
  // numbers, too, and the instances' own gradient to their type. The differences are 1e-9 off.
  const double tolerance = s.type == ElementType::float32 ? 1e-4 : 1e-3;
  const double of_instances = s.type == ElementType::bfloat16 ? 1e-2 : tolerance;
  check_gradient(data, &PlainCall::stored, found.stored, loss, of_instances, "instances");
  check_gradient(data, &PlainCall::state, found.state, loss, tolerance, "state");
  check_gradient(data, &PlainCall::weight, found.weight, loss, tolerance, "weight");
  if (s.bias) check_gradient(data, &PlainCall::bias, found.bias, loss, tolerance, "bias");
  const auto at = [&](double change) {
    auto moved = data;
    for (auto& beta : moved.beta) beta += change;
    return loss.of(PlainOracle(moved).forward());
  };
  EXPECT_NEAR(found.beta, (at(1e-6) - at(-1e-6)) / 2e-6, tolerance * (std::abs(found.beta) + 10)) << "beta";
  for (size_t i = 0; i < found.stored.size(); ++i) {
    const bool exists = static_cast<int64_t>(i) % data.call.stored.row < s.width;
    EXPECT_EQ(std::isfinite(found.stored[i]), exists) << i;
  }
  if (s.type == ElementType::float32 && !s.plain_float32) {
    SCOPED_TRACE("plain");
    s.plain_float32 = true;
    check_gradients(s);
  }
}

class CudaPoolBackward : public Cuda, public ::testing::WithParamInterface<ElementType> {};

TEST_P(CudaPoolBackward, GradientsAreThoseOfTheFormula) {
  for (const bool normalize : {true, false}) {
    Sample s;
    s.type = GetParam();
    s.bags = {20, 0, 1, 70};
    s.queries = 2;
    s.width = 24;
    s.depth = 5;
    s.normalize = s.on_chip = normalize;
    check_gradients(s);
    s.steps = 0;
    s.key_bias = true;
    check_gradients(s);
  }
}

TEST_P(CudaPoolBackward, GradientsWithDropout) {
  Sample s;
  s.type = GetParam();
  s.bags = {33, 12};
  s.steps = 1;
  s.dropout = 0.3f;
  check_gradients(s);
}

TEST_P(CudaPoolBackward, GradientsOfManyRowsAndParts) {
  Sample s;
  s.type = GetParam();
  s.bags = {kPoolPart + 40};
  s.width = 8;
  s.depth = 4;
  s.heads = 3;
  s.queries = 7;
  s.steps = 1;
  check_gradients(s);
}

INSTANTIATE_TEST_SUITE_P(Types, CudaPoolBackward,
                         ::testing::Values(ElementType::float32, ElementType::bfloat16, ElementType::float16));

TEST_F(Cuda, PoolsGradientsOfWideInstances) {
  for (const auto type : {ElementType::bfloat16, ElementType::float16, ElementType::float32}) {
    for (const int64_t width : {255, 257, 1021}) {
      Sample s;
      s.bags = {19};
      s.width = width;
      s.type = type;
      s.queries = s.steps = 1;
      s.depth = 4;
      check_gradients(s);
    }
  }
}

}  // namespace
}  // namespace hopfield::kernels::cuda
