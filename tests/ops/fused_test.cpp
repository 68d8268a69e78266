// The fused kernels against the composite in float64, the oracle. Error rule: at most twice (gradients: three times)
// that of the composite in the same precision, plus the rounding of the result's own size.

#include "support/naive.h"
#include "support/retrieve_case.h"
#include <hopfield/ops/retrieve.h>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/autograd.h>

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <random>

namespace hopfield {
namespace {

using testing::bitwise_equal;
using testing::Layout;
using testing::make_case;
using testing::MaskKind;
using testing::randn;
using testing::RetrieveShape;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// A call and what is drawn for it.
struct Sample {
  RetrieveInput input;  // float64
  std::vector<int64_t> steps;
  std::vector<double> eps;
  StopRule rule = StopRule::per_query;
  Gradient gradient = Gradient::unrolled();
  at::Tensor beta;
  double dropout = 0;
  bool own_projection = false;
  std::string name;
};

struct Results {
  std::vector<at::Tensor> outputs;    // output, state, logsumexp
  std::vector<at::Tensor> gradients;  // state, stored, projection, beta
  at::Tensor steps;
};

at::Tensor cast(const at::Tensor& tensor, at::ScalarType type) {
  if (!tensor.defined() || !at::isFloatingType(tensor.scalar_type())) return tensor;
  return tensor.detach().to(type).requires_grad_(true);
}

Results run(const Sample& sample, at::ScalarType type, Backend backend, bool with_gradient = true) {
  RetrieveInput input = sample.input;
  input.state = cast(input.state, type);
  input.stored = cast(input.stored, type);
  input.projection = cast(input.projection, type);
  for (auto* mask : {&input.association_mask, &input.key_bias}) {
    if (mask->defined() && mask->scalar_type() == at::kDouble)
      *mask = mask->to(type == at::kBFloat16 ? at::kFloat : type);
  }
  const auto beta = sample.beta.detach().to(at::kDouble).requires_grad_(true);
  auto options = RetrieveOptions()
                     .beta(beta)
                     .update_steps_max(sample.steps)
                     .update_steps_eps(sample.eps)
                     .update_steps_cap(8)
                     .stop_rule(sample.rule)
                     .gradient(sample.gradient)
                     .dropout(sample.dropout)
                     .generator(at::detail::createCPUGenerator(7))
                     .backend(backend);
  const at::AutoGradMode grad_mode(with_gradient);
  const auto r = retrieve(input, options);
  Results results{{r.output, r.state, r.logsumexp}, {}, r.steps};
  if (!with_gradient) return results;
  std::vector<at::Tensor> inputs{input.state, input.stored};
  if (input.projection.defined()) inputs.push_back(input.projection);
  inputs.push_back(beta);
  // Weights of the results in the loss, the same for all precisions; rows without logsumexp have no gradient.
  std::vector<at::Tensor> weights;
  for (size_t i = 0; i < results.outputs.size(); ++i) {
    const auto& output = results.outputs[i];
    weights.push_back(randn(output.sizes(), 90 + i).to(output.scalar_type()));
    if (i == 2) weights.back().masked_fill_(at::isneginf(output), 0.0);
  }
  results.gradients = torch::autograd::grad(results.outputs, inputs, weights, std::nullopt, false, true);
  return results;
}

/// Largest and mean error, infinity where NaN or infinities are not in the same places.
std::pair<double, double> errors(const at::Tensor& found, const at::Tensor& reference) {
  if (found.numel() == 0) return {0, 0};
  const auto a = found.to(at::kDouble), b = reference;
  const auto finite = at::isfinite(b);
  if (!at::isfinite(a).eq(finite).all().item<bool>()) return {kInfinity, kInfinity};
  const auto difference = at::where(finite, a - b, at::zeros_like(b)).abs();
  return {difference.max().item<double>(), difference.mean().item<double>()};
}

double rounding_of(const at::Tensor& reference, at::ScalarType type) {
  if (reference.numel() == 0) return 0;
  const auto rounded = (reference.to(type) + 0.3).sub(0.3).to(at::kDouble);
  return 2 *
         at::where(at::isfinite(reference), rounded - reference, at::zeros_like(reference)).abs().max().item<double>();
}

/// The errors of one call: {largest, mean, rounding} for each output and gradient.
struct Errors {
  double largest, mean, rounding;
};

std::vector<Errors> all_errors(const Results& found, const Results& reference, at::ScalarType type) {
  std::vector<Errors> all;
  const auto add = [&](const at::Tensor& a, const at::Tensor& b) {
    if (!b.defined()) return all.push_back({0, 0, 0});
    const auto [largest, mean] = errors(a, b);
    all.push_back({largest, mean, rounding_of(b, type)});
  };
  for (size_t i = 0; i < reference.outputs.size(); ++i) add(found.outputs[i], reference.outputs[i]);
  for (size_t i = 0; i < reference.gradients.size(); ++i) add(found.gradients[i], reference.gradients[i]);
  return all;
}

/// The inputs that a call in another precision gets, in float64.
Sample rounded_to(const Sample& sample, at::ScalarType type) {
  auto result = sample;
  for (auto* tensor : {&result.input.state, &result.input.stored, &result.input.projection}) {
    if (tensor->defined()) *tensor = tensor->to(type).to(at::kDouble);
  }
  for (auto* mask : {&result.input.association_mask, &result.input.key_bias}) {
    if (mask->defined() && mask->scalar_type() == at::kDouble) *mask = mask->to(at::kFloat).to(at::kDouble);
  }
  return result;
}

/// The same call with inputs of float32 precision moved by a thousandth: other roundings of the same size.
Sample varied(const Sample& sample, uint64_t seed) {
  auto result = sample;
  const auto vary = [&](at::Tensor& tensor) {
    if (tensor.defined()) tensor = (tensor * (1 + 1e-3 * randn(tensor.sizes(), ++seed))).to(at::kFloat).to(at::kDouble);
  };
  vary(result.input.state);
  vary(result.input.stored);
  vary(result.input.projection);
  vary(result.input.key_bias);
  if (result.input.association_mask.defined() && result.input.association_mask.scalar_type() == at::kDouble) {
    vary(result.input.association_mask);
  }
  return result;
}

std::string broken_rule(const std::vector<Errors>& fused, const std::vector<Errors>& plain) {
  const char* names[] = {"output", "state", "logsumexp", "gradient 0", "gradient 1", "gradient 2", "gradient 3"};
  for (size_t i = 0; i < fused.size(); ++i) {
    const double largest = i < 3 ? 2 : 3, mean = i < 3 ? 1.5 : 3;
    const auto& f = fused[i];
    if (f.largest <= largest * plain[i].largest + f.rounding && f.mean <= mean * plain[i].mean + f.rounding / 4)
      continue;
    return c10::str(names[i], ": largest error ", f.largest, " against ", plain[i].largest, " plain, mean ", f.mean,
                    " against ", plain[i].mean, ", rounding ", f.rounding);
  }
  return "";
}

void compare(const Sample& sample, at::ScalarType type) {
  const auto reference = run(rounded_to(sample, type), at::kDouble, Backend::composite);
  const auto plain = run(sample, type, Backend::composite);
  const auto fused = run(sample, type, Backend::fused);
  // A stop rule near its threshold may count differently in another precision: the values are then not comparable.
  if (!plain.steps.equal(reference.steps) || !fused.steps.equal(reference.steps)) {
    EXPECT_LE((fused.steps - reference.steps).abs().max().item<int64_t>(), 1) << sample.name;
    return;
  }
  const auto fused_errors = all_errors(fused, reference, type);
  auto plain_errors = all_errors(plain, reference, type);
  // A result of few numbers, or of equal ones, has an error of chance: the plain error is then the worst of some calls
  // that differ in rounding only.
  constexpr uint64_t kVariations = 16;
  for (uint64_t i = 0; i < kVariations && !broken_rule(fused_errors, plain_errors).empty(); ++i) {
    const auto other = varied(sample, 1000 * i);
    const auto more = all_errors(run(other, type, Backend::composite),
                                 run(rounded_to(other, type), at::kDouble, Backend::composite), type);
    for (size_t j = 0; j < more.size(); ++j) {
      plain_errors[j].largest = std::max(plain_errors[j].largest, more[j].largest);
      plain_errors[j].mean = std::max(plain_errors[j].mean, more[j].mean);
    }
  }
  EXPECT_EQ(broken_rule(fused_errors, plain_errors), "") << sample.name;
}

/// A random case: layouts, masks and options drawn, sizes small and ugly or around the edges of tiles.
Sample draw(uint64_t seed) {
  std::mt19937_64 random(seed);
  const auto pick = [&](std::initializer_list<int64_t> values) { return values.begin()[random() % values.size()]; };
  RetrieveShape shape;
  shape.batch = pick({1, 2, 3, 5});
  shape.heads = pick({1, 2, 3});
  shape.queries = pick({1, 2, 3, 7, 16, 17, 33, 64, 65, 131});
  shape.keys = pick({1, 2, 5, 15, 16, 17, 63, 64, 65, 127, 130, 511, 512, 513, 1100});
  shape.depth = pick({1, 3, 8, 15, 16, 17, 32, 40, 64, 65, 130});
  shape.width = pick({1, 7, 16, 24, 32, 64, 70});
  const auto layout = testing::kLayouts[random() % std::size(testing::kLayouts)];
  auto mask = testing::kMaskKinds[random() % std::size(testing::kMaskKinds)];
  if (layout == Layout::ragged && mask != MaskKind::key_bias) mask = MaskKind::none;
  Sample sample;
  sample.own_projection = random() % 2 == 0;
  const auto drawn = make_case(layout, mask, sample.own_projection, seed * 16, shape);
  sample.input = drawn.input;
  const bool per_head = random() % 3 == 0, until_converged = random() % 6 == 0;
  for (int64_t h = 0; h < (per_head ? shape.heads : 1); ++h) {
    sample.steps.push_back(until_converged ? kUntilConverged : pick({0, 1, 3, 10}));
    sample.eps.push_back(!until_converged && random() % 2 == 0 ? 0.0 : 1e-2);
  }
  if (random() % 4 == 0) sample.rule = StopRule::per_head;
  if (random() % 4 == 0) sample.gradient = Gradient::last(pick({0, 1, 2, 20}));
  const double betas[] = {0.0, 1e-3, 0.3, 1.0, -0.5};
  const auto beta = betas[random() % std::size(betas)] / std::sqrt(static_cast<double>(shape.depth));
  sample.beta =
      random() % 2 == 0 ? at::full({}, beta, at::kDouble) : beta * (1 + 0.1 * at::arange(shape.heads, at::kDouble));
  sample.dropout = random() % 4 == 0 ? 0.4 : 0.0;
  sample.name = drawn.name + c10::str(" seed ", seed, " N ", shape.batch, " H ", shape.heads, " L ", shape.queries,
                                      " S ", shape.keys, " d ", shape.depth, " d_v ", shape.width, " steps ",
                                      sample.steps, " eps ", sample.eps, " ", to_string(sample.rule), " ",
                                      to_string(sample.gradient), " beta ", beta, " dropout ", sample.dropout);
  return sample;
}

class Generated : public ::testing::TestWithParam<uint64_t> {};

TEST_P(Generated, StayWithinTheErrorRule) {
  constexpr uint64_t kCasesInTest = 100;
  for (uint64_t i = 0; i < kCasesInTest && !HasFailure(); ++i) {
    const auto seed = GetParam() * kCasesInTest + i;
    compare(draw(seed), seed % 3 == 2 ? at::kBFloat16 : at::kFloat);
  }
}

INSTANTIATE_TEST_SUITE_P(Fused, Generated, ::testing::Range<uint64_t>(0, 20));

Sample plain_sample(RetrieveShape shape, Layout layout, bool own_projection, int64_t steps, double beta,
                    uint64_t seed) {
  Sample sample;
  sample.input = make_case(layout, MaskKind::none, own_projection, seed, shape).input;
  sample.steps = {steps};
  sample.eps = {0.0};
  sample.beta = at::full({}, beta, at::kDouble);
  sample.own_projection = own_projection;
  sample.name = c10::str("beta ", beta, " S ", shape.keys);
  return sample;
}

TEST(Fused, SurvivesExtremeBeta) {
  for (const double beta : {0.0, 1e-6, 8.0, 1e3, 1e6, -3.0}) {
    compare(plain_sample({2, 2, 20, 70, 16, 16}, Layout::dense, true, 2, beta, 5), at::kFloat);
    compare(plain_sample({2, 2, 3, 70, 16, 16}, Layout::dense, false, 1, beta, 6), at::kFloat);
  }
}

void expect_same_bits(const Results& a, const Results& b, const std::string& name) {
  for (size_t i = 0; i < a.outputs.size(); ++i) EXPECT_TRUE(bitwise_equal(a.outputs[i], b.outputs[i])) << name << i;
  for (size_t i = 0; i < a.gradients.size(); ++i) {
    EXPECT_TRUE(bitwise_equal(a.gradients[i], b.gradients[i])) << name << " gradient " << i;
  }
}

TEST(Fused, GivesTheSameBitsForAnyNumberOfThreads) {
  const auto threads_before = at::get_num_threads();
  uint64_t seed = 11;
  // Few queries and many keys, few keys and many queries, patterns shared by the batch, ragged bags.
  for (const auto& [shape, layout] :
       std::vector<std::pair<RetrieveShape, Layout>>{{{1, 1, 1, 40000, 16, 16}, Layout::dense},
                                                     {{1, 2, 8, 20000, 8, 8}, Layout::heads_shared},
                                                     {{1, 1, 200, 9000, 16, 16}, Layout::dense},
                                                     {{40, 2, 64, 100, 24, 24}, Layout::batch_shared},
                                                     {{9, 1, 3, 700, 16, 16}, Layout::ragged},
                                                     {{3, 2, 70, 600, 32, 32}, Layout::dense}}) {
    for (const bool own_projection : {false, true}) {
      const auto sample = plain_sample(shape, layout, own_projection, 2, 0.5, ++seed);
      at::set_num_threads(1);
      const auto alone = run(sample, at::kFloat, Backend::fused);
      for (const int threads : {2, 8}) {
        at::set_num_threads(threads);
        expect_same_bits(run(sample, at::kFloat, Backend::fused), alone, sample.name);
      }
    }
  }
  at::set_num_threads(threads_before);
}

TEST(Fused, ABagAloneEqualsTheBagInABatchBitByBit) {
  const auto whole = plain_sample({6, 2, 5, 900, 16, 16}, Layout::ragged, true, 2, 0.5, 3);
  const auto together = run(whole, at::kFloat, Backend::fused, false);
  const auto offsets = whole.input.offsets.data_ptr<int64_t>();
  for (int64_t n = 0; n < 6; ++n) {
    auto bag = whole;
    bag.input.state = whole.input.state.narrow(0, n, 1);
    bag.input.stored = whole.input.stored.slice(0, offsets[n], offsets[n + 1]);
    bag.input.projection = whole.input.projection.slice(0, offsets[n], offsets[n + 1]);
    bag.input.offsets = at::tensor({int64_t{0}, offsets[n + 1] - offsets[n]});
    const auto alone = run(bag, at::kFloat, Backend::fused, false);
    for (size_t i = 0; i < 3; ++i) {
      EXPECT_TRUE(bitwise_equal(alone.outputs[i][0], together.outputs[i][n])) << "bag " << n << " result " << i;
    }
  }
}

/// The same numbers in six layouts.
std::vector<at::Tensor> layouts_of(const at::Tensor& x) {
  auto padded = at::empty({x.size(0), x.size(1), x.size(2), x.size(3) + 3}, x.options()).fill_(kInfinity);
  padded.narrow(3, 1, x.size(3)).copy_(x);
  auto strided = at::empty({x.size(0), x.size(1), x.size(2), 2 * x.size(3)}, x.options()).fill_(kInfinity);
  strided.slice(3, 0, 2 * x.size(3), 2).copy_(x);
  return {x.contiguous(),
          x.transpose(1, 2).contiguous().transpose(1, 2),
          x.transpose(0, 1).contiguous().transpose(0, 1),
          x.transpose(2, 3).contiguous().transpose(2, 3),
          padded.narrow(3, 1, x.size(3)),
          strided.slice(3, 0, 2 * x.size(3), 2)};
}

TEST(Fused, GivesTheSameBitsForAnyMemoryLayout) {
  for (const int64_t queries : {3, 40}) {
    const auto sample = plain_sample({2, 3, queries, 50, 16, 24}, Layout::dense, true, 1, 0.5, 8);
    const auto make = [&](const at::Tensor& tensor) { return layouts_of(tensor.to(at::kFloat)); };
    // State, stored, values, mask, and the gradient that comes in.
    const std::vector<std::vector<at::Tensor>> all{make(sample.input.state), make(sample.input.stored),
                                                   make(sample.input.projection), make(randn({2, 3, queries, 50}, 9)),
                                                   make(randn({2, 3, queries, 24}, 10))};
    const auto results = [&](const std::vector<size_t>& layouts) {
      std::vector<at::Tensor> leaves;
      for (size_t i = 0; i < 3; ++i) leaves.push_back(all[i][layouts[i]].detach().requires_grad_(true));
      const auto r = retrieve({leaves[0], leaves[1], leaves[2], {}, all[3][layouts[3]], {}, {}},
                              RetrieveOptions().fixed_steps(1).backend(Backend::fused));
      auto found = torch::autograd::grad({r.output}, leaves, {all[4][layouts[4]]});
      found.push_back(r.output.detach());
      found.push_back(r.state.detach());
      return found;
    };
    const auto expected = results({0, 0, 0, 0, 0});
    for (size_t input = 0; input < all.size(); ++input) {
      for (size_t layout = 1; layout < 6; ++layout) {
        std::vector<size_t> layouts(all.size(), 0);
        layouts[input] = layout;
        const auto found = results(layouts);
        for (size_t i = 0; i < found.size(); ++i) {
          EXPECT_TRUE(bitwise_equal(found[i].contiguous(), expected[i].contiguous()))
              << "input " << input << " layout " << layout << " result " << i;
        }
      }
    }
  }
}

/// The same numbers with rows 4 GiB apart, in memory that is never touched between them.
class FarApart {
 public:
  explicit FarApart(const at::Tensor& rows) : size_(static_cast<size_t>(rows.size(2)) * kRow * sizeof(float)) {
    memory_ = mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory_ == MAP_FAILED) return;
    tensor = at::from_blob(memory_, rows.sizes(), {0, 0, kRow, 1}, rows.options()).detach();
    tensor.copy_(rows);
  }
  FarApart(const FarApart&) = delete;
  FarApart& operator=(const FarApart&) = delete;
  ~FarApart() {
    if (memory_ != MAP_FAILED) munmap(memory_, size_);
  }
  at::Tensor tensor;

 private:
  static constexpr int64_t kRow = int64_t{1} << 30;
  size_t size_;
  void* memory_;
};

TEST(Fused, CountsBeyondThirtyTwoBits) {
  for (const int64_t queries : {3, 60}) {
    const auto state = randn({1, 1, queries, 16}, 1).to(at::kFloat), stored = randn({1, 1, 7, 16}, 2).to(at::kFloat);
    const FarApart far_state(state), far_stored(stored);
    if (!far_state.tensor.defined() || !far_stored.tensor.defined()) GTEST_SKIP() << "no address space for 240 GiB";
    const auto run_on = [](const at::Tensor& x, const at::Tensor& y) {
      const auto a = x.detach().requires_grad_(true), b = y.detach().requires_grad_(true);
      const auto r = retrieve({a, b, {}, {}, {}, {}, {}}, RetrieveOptions().fixed_steps(2).backend(Backend::fused));
      auto results = torch::autograd::grad({r.output.sum()}, {a, b});
      results.push_back(r.output.detach());
      return results;
    };
    const auto found = run_on(far_state.tensor, far_stored.tensor), expected = run_on(state, stored);
    for (size_t i = 0; i < found.size(); ++i) EXPECT_TRUE(bitwise_equal(found[i].contiguous(), expected[i])) << i;
  }
}

TEST(Fused, TakesEverySizeOfZero) {
  for (int dimension = 0; dimension < 6; ++dimension) {
    RetrieveShape shape{2, 2, 3, 5, 4, 3};
    int64_t* sizes[] = {&shape.batch, &shape.heads, &shape.queries, &shape.keys, &shape.depth, &shape.width};
    *sizes[dimension] = 0;
    const auto state = at::ones({shape.batch, shape.heads, shape.queries, shape.depth}).requires_grad_(true);
    const auto stored = at::ones({shape.batch, shape.heads, shape.keys, shape.depth}).requires_grad_(true);
    const auto values = at::ones({shape.batch, shape.heads, shape.keys, shape.width}).requires_grad_(true);
    for (const int64_t steps : {0, 2}) {
      const auto options = RetrieveOptions().fixed_steps(steps);
      const auto fused =
          retrieve({state, stored, values, {}, {}, {}, {}}, RetrieveOptions(options).backend(Backend::fused));
      const auto plain =
          retrieve({state, stored, values, {}, {}, {}, {}}, RetrieveOptions(options).backend(Backend::composite));
      EXPECT_EQ(fused.output.sizes(), plain.output.sizes());
      EXPECT_LT(testing::max_difference(fused.output.to(at::kDouble), plain.output.to(at::kDouble)), 1e-6);
      EXPECT_LT(testing::max_difference(fused.logsumexp.to(at::kDouble), plain.logsumexp.to(at::kDouble)), 1e-6);
      const auto gradients = [&](const RetrieveResult& r) {
        return torch::autograd::grad({r.output.sum() + r.state.sum()}, {state, stored, values}, {}, std::nullopt, false,
                                     true);
      };
      const auto found = gradients(fused), expected = gradients(plain);
      for (size_t i = 0; i < found.size(); ++i) {
        EXPECT_LT(testing::max_difference(found[i].to(at::kDouble), expected[i].to(at::kDouble)), 1e-5) << i;
      }
    }
  }
}

TEST(Fused, NanInLivePatternsStaysInItsOwnRows) {
  auto sample = plain_sample({3, 2, 4, 20, 16, 16}, Layout::dense, true, 1, 0.5, 9);
  const auto clean = run(sample, at::kFloat, Backend::fused, false);
  for (auto* spoilt : {&sample.input.state, &sample.input.stored, &sample.input.projection}) {
    const auto before = spoilt->clone();
    (*spoilt)[1][0][2].fill_(std::numeric_limits<double>::quiet_NaN());
    const auto found = run(sample, at::kFloat, Backend::fused, false),
               plain = run(sample, at::kFloat, Backend::composite, false);
    EXPECT_TRUE(at::isnan(found.outputs[0]).equal(at::isnan(plain.outputs[0])));
    EXPECT_TRUE(at::isnan(found.outputs[1]).equal(at::isnan(plain.outputs[1])));
    EXPECT_TRUE(bitwise_equal(found.outputs[0][0], clean.outputs[0][0]));
    EXPECT_TRUE(bitwise_equal(found.outputs[0][1][1], clean.outputs[0][1][1]));
    *spoilt = before;
  }
}

TEST(Fused, CanBeDifferentiatedTwice) {
  auto sample = plain_sample({2, 1, 3, 6, 4, 4}, Layout::dense, true, 2, 0.7, 4);
  const auto second = [&](Backend backend) {
    const auto state = sample.input.state.to(at::kFloat).requires_grad_(true);
    const auto stored = sample.input.stored.to(at::kFloat).requires_grad_(true);
    const auto r = retrieve({state, stored, {}, {}, {}, {}, {}}, RetrieveOptions().fixed_steps(2).backend(backend));
    const auto first = torch::autograd::grad({r.output.pow(2).sum()}, {state, stored}, {}, true, true);
    return torch::autograd::grad({first[0].pow(2).sum() + first[1].pow(2).sum()}, {state, stored});
  };
  const auto fused = second(Backend::fused), plain = second(Backend::composite);
  for (size_t i = 0; i < 2; ++i) EXPECT_LT((fused[i] - plain[i]).abs().max().item<double>(), 1e-4);
}

TEST(Fused, NoticesTensorsChangedBetweenForwardAndBackward) {
  const auto state = at::randn({1, 1, 3, 8}).requires_grad_(true), stored = at::randn({1, 1, 5, 8});
  const auto r =
      retrieve({state, stored, {}, {}, {}, {}, {}}, RetrieveOptions().fixed_steps(1).backend(Backend::fused));
  stored.add_(1.0);
  EXPECT_THROW(r.output.sum().backward(), c10::Error);
}

TEST(Fused, EnergyFallsWithEveryUpdate) {
  const auto stored = randn({1, 1, 50, 16}, 1).to(at::kFloat), state = 0.1 * randn({1, 1, 20, 16}, 2).to(at::kFloat);
  auto padding = at::zeros({1, 50}, at::kBool);
  padding.slice(1, 30).fill_(true);
  at::Tensor before;
  for (int64_t steps = 0; steps < 12; ++steps) {
    const auto r = retrieve({state, stored, {}, {}, {}, padding, {}},
                            RetrieveOptions().beta(0.7).fixed_steps(steps).with_energy().backend(Backend::fused));
    const auto live = retrieve({state, stored.slice(2, 0, 30), {}, {}, {}, {}, {}},
                               RetrieveOptions().beta(0.7).fixed_steps(steps).with_energy().backend(Backend::fused));
    EXPECT_LT((r.energy - live.energy).abs().max().item<double>(), 1e-4);
    if (before.defined()) {
      EXPECT_LE((r.energy - before).max().item<double>(), 1e-4) << steps;
    }
    before = r.energy;
  }
}

TEST(Fused, MeasuresTheChangeOfAssociations) {
  for (const double beta : {0.05, 0.5, 4.0, 40.0}) {
    for (const auto layout : {Layout::dense, Layout::ragged, Layout::heads_shared}) {
      for (const auto mask : {MaskKind::none, MaskKind::key_bias}) {
        const auto input = make_case(layout, mask, true, 21, {3, 2, 5, 700, 16, 16}).input;
        auto floats = input;
        for (auto* tensor : {&floats.state, &floats.stored, &floats.projection, &floats.key_bias}) {
          if (tensor->defined()) *tensor = tensor->to(at::kFloat);
        }
        for (const int64_t steps : {1, 2, 4, 7}) {
          const auto options = RetrieveOptions().beta(beta).fixed_steps(steps).stop_rule(StopRule::per_head);
          const auto expected = retrieve(input, options).residual;
          const auto error = [&](Backend backend) {
            return (retrieve(floats, RetrieveOptions(options).backend(backend)).residual - expected).abs();
          };
          // Scores change by up to 100 beta here, and carry the rounding of that.
          const auto rounding = 4e-6 * beta;
          const auto allowed = at::maximum(2 * error(Backend::composite), 1e-3 * expected + rounding);
          EXPECT_TRUE(error(Backend::fused).le(allowed).all().item<bool>()) << "beta " << beta << " steps " << steps;
        }
      }
    }
  }
}

TEST(Fused, TrainsUntilConvergedWithoutKeepingStates) {
  auto sample = plain_sample({2, 2, 5, 40, 16, 16}, Layout::dense, true, kUntilConverged, 2.0, 17);
  sample.eps = {1e-3};
  for (const auto rule : {StopRule::per_query, StopRule::per_head}) {
    sample.rule = rule;
    compare(sample, at::kFloat);
  }
}

TEST(Fused, SaysWhyNot) {
  const auto x = at::randn({1, 1, 3, 8}), y = at::randn({1, 1, 5, 8});
  const auto reason = [&](const RetrieveOptions& options) {
    return why_not_fused({x, y, {}, {}, {}, {}, {}}, options);
  };
  EXPECT_FALSE(reason(RetrieveOptions().fixed_steps(3)));
  EXPECT_FALSE(reason(RetrieveOptions().until_converged()));
  EXPECT_FALSE(reason(RetrieveOptions().fixed_steps(3).stop_rule(StopRule::per_head)));
  EXPECT_FALSE(reason(RetrieveOptions().with_scores()));
  EXPECT_TRUE(why_not_fused({x.to(at::kDouble), y.to(at::kDouble), {}, {}, {}, {}, {}}));
  auto spoilt = y.clone();
  spoilt[0][0][4].fill_(kInfinity);
  auto padding = at::zeros({1, 5}, at::kBool);
  padding[0][4] = true;
  EXPECT_FALSE(why_not_fused({x, spoilt, {}, {}, {}, padding, {}}));
  EXPECT_TRUE(why_not_fused({x, spoilt, {}, {}, {}, padding.bitwise_not(), {}}));
  EXPECT_TRUE(at::isfinite(retrieve({x, spoilt, {}, {}, {}, padding, {}}).output).all().item<bool>());
}

}  // namespace
}  // namespace hopfield
