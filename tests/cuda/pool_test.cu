// Pooling against the formula in float64.

#include "pool_case.h"

namespace hopfield::kernels::cuda {
namespace {

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

void check(const Sample& s, const Data& data, const Results& reference) {
  const Device found(s, data);
  // Far below what rounding the results to the type would cost.
  const double tolerance = s.type == PoolType::bfloat16 ? 2e-4 : s.type == PoolType::float16 ? 1e-4 : 3e-5;
  expect_near(found.output.download(), reference.output, tolerance, "output");
  expect_near(found.state.download(), reference.state, tolerance, "state");
  expect_near(found.mass.download(), reference.mass, tolerance, "mass");
  expect_near(found.logsumexp.download(), reference.logsumexp, tolerance, "logsumexp");
  expect_near(found.scores.download(), reference.scores, tolerance, "scores");
  expect_near(found.residual.download(), reference.residual, tolerance, "residual");
  if (s.eps == 0) {
    EXPECT_EQ(found.steps.download(), reference.steps);
  }
}

void check(Sample s) {
  const auto data = draw(s);
  const auto reference = expected(s, data);
  for (const bool plain : {false, true}) {
    if (plain && s.type != PoolType::float32) continue;
    for (const bool on_chip : {false, true}) {
      SCOPED_TRACE(std::string(plain ? "plain, " : "") + (on_chip ? "on chip" : "streamed"));
      s.plain_float32 = plain;
      s.on_chip = on_chip;
      check(s, data, reference);
    }
  }
}

/// Weights of a loss that all results enter.
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

  double of(const Results& r) const {
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

struct Gradients {
  std::vector<double> instances, state, weight, bias;
  double beta = 0;
};

Gradients gradients(const Sample& s, const Data& d, const Loss& loss) {
  const Device forward(s, d);
  const auto& call = forward.call;
  const auto rows = static_cast<int64_t>(s.bags.size()) * s.heads * s.queries;
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const auto floats = [nan](int64_t count) { return DeviceArray<float>(static_cast<size_t>(count), nan); };
  const auto query = floats(rows * s.depth), beta = floats(rows), products = floats((s.steps + 1) * rows * s.width),
             states = floats(s.steps * rows * s.depth);
  const DeviceArray<float> output(as_floats(loss.output)), state(as_floats(loss.state)),
      logsumexp(as_floats(loss.logsumexp)), mass(as_floats(loss.mass));
  const int64_t size = s.type == PoolType::float32 ? 4 : 2, row = Device::row_of(s);
  const DeviceArray<unsigned char> instances(static_cast<size_t>(s.total() * row * size), 0xFF);
  PoolGradients g;
  g.output = output.data();
  g.state = state.data();
  g.logsumexp = logsumexp.data();
  g.mass = mass.data();
  g.saved_states = forward.saved_states.data();
  g.saved_sums = forward.saved_sums.data();
  g.saved_means = forward.saved_means.data();
  g.forward_output = forward.output.data();
  g.forward_mass = forward.mass.data();
  g.steps = forward.steps.data();
  g.instances = instances.data();
  g.instance_row = row;
  g.query = query.data();
  g.beta = beta.data();
  g.products = products.data();
  g.states = states.data();
  const DeviceArray<unsigned char> workspace(pool_backward_workspace_size(call, g), 0xFF);
  const auto error = pool_backward(call, g, workspace.data(), nullptr);
  if (!error.empty()) throw std::runtime_error(error);

  Gradients result;
  const auto bytes = instances.download();
  for (int64_t i = 0; i < s.total(); ++i) {
    for (int64_t k = 0; k < s.width; ++k) {
      const unsigned char* at = &bytes[static_cast<size_t>((i * row + k) * size)];
      float value;
      uint16_t bits;
      std::memcpy(&value, at, s.type == PoolType::float32 ? 4 : 0);
      std::memcpy(&bits, at, 2);
      if (s.type == PoolType::bfloat16) value = cuda_on_host::float_of_bfloat16(bits);
      if (s.type == PoolType::float16) value = cuda_on_host::float_of_float16(bits);
      result.instances.push_back(value);
    }
  }
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

/// Compares a gradient with differences of the loss in float64, along random directions and single coordinates.
void check_gradient(const Sample& s, const Data& data, std::vector<double> Data::*member,
                    const std::vector<double>& found, const Loss& loss, double tolerance, const char* name) {
  ASSERT_EQ((data.*member).size(), found.size());
  double norm = 0;
  for (const auto value : found) norm += value * value;
  norm = std::sqrt(norm);
  for (uint32_t trial = 0; trial < 6; ++trial) {
    auto direction = random_doubles(static_cast<int64_t>(found.size()), 1000 + trial);
    if (trial >= 3) {
      for (size_t i = 0; i < direction.size(); ++i) direction[i] = i == (trial - 2) * found.size() / 4 ? 1.0 : 0.0;
    }
    const double step = 1e-6;
    const auto at = [&](double distance) {
      auto moved = data;
      for (size_t i = 0; i < direction.size(); ++i) {
        if (!std::isnan((data.*member)[i])) (moved.*member)[i] += distance * direction[i];
      }
      return loss.of(expected(s, moved));
    };
    double product = 0;
    for (size_t i = 0; i < found.size(); ++i) product += found[i] * direction[i];
    EXPECT_NEAR(product, (at(step) - at(-step)) / (2 * step), tolerance * (norm + 1)) << name << " trial " << trial;
  }
}

void check_gradients(Sample s) {
  const auto data = draw(s);
  const Loss loss(s);
  const auto found = gradients(s, data, loss);
  const double tolerance = s.type == PoolType::float32 ? 1e-4 : 1e-3;
  // The instances' own gradient is rounded to their type.
  const double of_instances = s.type == PoolType::bfloat16 ? 1e-2 : tolerance;
  check_gradient(s, data, &Data::instances, found.instances, loss, of_instances, "instances");
  check_gradient(s, data, &Data::state, found.state, loss, tolerance, "state");
  check_gradient(s, data, &Data::weight, found.weight, loss, tolerance, "weight");
  if (s.bias) check_gradient(s, data, &Data::bias, found.bias, loss, tolerance, "bias");
  const auto at = [&](double change) {
    auto moved = s;
    moved.beta += change;
    return loss.of(expected(moved, data));
  };
  EXPECT_NEAR(found.beta, (at(1e-6) - at(-1e-6)) / 2e-6, tolerance * (std::abs(found.beta) + 10)) << "beta";
  for (const auto value : found.instances) EXPECT_TRUE(std::isfinite(value));
  if (s.type == PoolType::float32 && !s.plain_float32) {
    SCOPED_TRACE("plain");
    s.plain_float32 = true;
    check_gradients(s);
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

TEST_P(CudaPool, ClustersOfAllSizesAndBagsTooLargeForThem) {
  Sample s;
  s.type = GetParam();
  const int64_t rows = s.type == PoolType::float32 ? 32 : s.type == PoolType::bfloat16 ? 64 : 16;  // of a tile
  s.bags = {rows, rows + 1, 0, 3 * rows, 4 * rows + 1, 16 * rows, 8 * rows + 3, 16 * rows + 1, 1};
  s.queries = 2;
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
  s.beta = 0.1;
  check(s);
}

TEST_P(CudaPool, GradientsAreThoseOfTheFormula) {
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

TEST_P(CudaPool, GradientsWithDropout) {
  Sample s;
  s.type = GetParam();
  s.bags = {33, 12};
  s.steps = 1;
  s.dropout = 0.3f;
  check_gradients(s);
}

TEST_P(CudaPool, GradientsOfManyRowsAndParts) {
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

INSTANTIATE_TEST_SUITE_P(Types, CudaPool, ::testing::Values(PoolType::float32, PoolType::bfloat16, PoolType::float16));

TEST_F(Cuda, PoolsWideInstances) {
  for (const auto type : {PoolType::bfloat16, PoolType::float16, PoolType::float32}) {
    for (const int64_t width : {7, 256, 257, 1024}) {
      Sample s;
      s.bags = {70, 3};
      s.width = width;
      s.type = type;
      check(s);
    }
  }
}

TEST_F(Cuda, PoolsGradientsOfWideInstances) {
  for (const auto type : {PoolType::bfloat16, PoolType::float16, PoolType::float32}) {
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
  for (const bool on_chip : {false, true}) {
    Sample batch;
    batch.bags = {70, 1300, 40, 500};
    batch.steps = 1;
    batch.on_chip = on_chip;
    const auto data = draw(batch);
    const auto together = Device(batch, data).output.download();
    const auto row = batch.heads * batch.queries * batch.width;
    int64_t first = 0;
    for (size_t bag = 0; bag < batch.bags.size(); ++bag) {
      auto alone = batch;
      alone.bags = {batch.bags[bag]};
      auto part = data;
      const auto begin = data.instances.begin() + first * batch.width;
      part.instances.assign(begin, begin + alone.bags[0] * batch.width);
      const auto found = Device(alone, part).output.download();
      EXPECT_TRUE(std::equal(found.begin(), found.end(), together.begin() + static_cast<int64_t>(bag) * row)) << bag;
      first += batch.bags[bag];
    }
  }
}

}  // namespace
}  // namespace hopfield::kernels::cuda
