// These tests check what the CPU's fused kernels of retrieve() promise beyond values: the bits of a result depend on
// neither threads nor batch nor memory layout, sizes may need 64 bits or be zero, and a refusal comes with its reason.

#include "retrieve_fused_case.h"
#include "support/allocations.h"
#include "support/close.h"

#include <ATen/Parallel.h>

#include <sys/mman.h>

namespace hopfield {
namespace {

using testing::bitwise_equal;
using testing::compare;
using testing::Layout;
using testing::plain_sample;
using testing::randn;
using testing::Results;
using testing::RetrieveShape;
using testing::run;

const Separation kSeparations[] = {Separation::softmax(), Separation::sparsemax(), Separation::entmax(1.3)};
constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

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
      ++seed;
      for (const auto& separation : kSeparations) {
        const auto sample = plain_sample(shape, layout, own_projection, 2, 0.5, seed, separation);
        at::set_num_threads(1);
        const auto alone = run(sample, at::kFloat, Backend::fused);
        for (const int threads : {2, 8}) {
          at::set_num_threads(threads);
          expect_same_bits(run(sample, at::kFloat, Backend::fused), alone, sample.name);
        }
      }
    }
  }
  at::set_num_threads(threads_before);
}

TEST(Fused, ABagAloneEqualsTheBagInABatchBitByBit) {
  for (const auto& separation : kSeparations) {
    const auto whole = plain_sample({6, 2, 5, 900, 16, 16}, Layout::ragged, true, 2, 0.5, 3, separation);
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
        EXPECT_TRUE(bitwise_equal(alone.outputs[i][0], together.outputs[i][n]))
            << "bag " << n << " result " << i << whole.name;
      }
    }
  }
}

/// A single association with few keys has a kernel of its own.
TEST(Fused, SmallSetsEqualTheComposite) {
  uint64_t seed = 100;
  for (const int64_t queries : {1, 5, 16, 17, 70}) {
    for (const int64_t keys : {0, 1, 3, 8, 13, 64, 65}) {
      for (const auto& [depth, width] : std::vector<std::pair<int64_t, int64_t>>{{16, 16}, {32, 48}, {48, 256}}) {
        const auto name = c10::str(queries, " queries, ", keys, " keys, ", depth, " and ", width);
        const auto run_with = [&](at::ScalarType type, Backend backend, bool causal) {
          std::vector<at::Tensor> leaves;
          const std::vector<std::vector<int64_t>> shapes{
              {2, 3, queries, depth}, {2, 1, keys, depth}, {2, 1, keys, width}};
          for (size_t i = 0; i < 3; ++i) leaves.push_back(randn(shapes[i], seed + i).to(type).requires_grad_(true));
          Masks masks;
          masks.is_causal = causal;
          const RetrieveInput input{leaves[0], leaves[1], leaves[2], masks};
          const auto options = RetrieveOptions().beta({0.3, -0.7, 1.1}).backend(backend);
          const auto r = retrieve(input, options);
          auto found = torch::autograd::grad({r.output.pow(2).sum() + r.logsumexp.clamp_min(-1e3).sum()}, leaves);
          for (const bool differentiated : {true, false}) {
            const at::AutoGradMode mode(differentiated);
            const auto again = differentiated ? r : retrieve(input, options);
            for (const auto& tensor : {again.output, again.state, again.logsumexp, again.converged.to(at::kFloat)}) {
              found.push_back(tensor.detach());
            }
          }
          return found;
        };
        for (const bool causal : {false, true}) {
          const auto found = run_with(at::kFloat, Backend::fused, causal);
          const auto expected = run_with(at::kDouble, Backend::composite, causal);
          for (size_t i = 0; i < found.size(); ++i)
            testing::expect_close(found[i], expected[i], name + c10::str(", ", i));
        }
        seed += 3;
      }
    }
  }
}

TEST(Fused, SmallSetsWithNumbersThatAreNotFinite) {
  const auto make = [](int64_t rows, uint64_t seed) { return randn({1, 1, rows, 16}, seed).to(at::kFloat); };
  auto state = make(20, 1), stored = make(9, 2), values = make(9, 3);
  state[0][0][3][0] = kNaN;
  state[0][0][4].fill_(kInfinity);
  state[0][0][5].fill_(-1e30);
  stored[0][0][2].fill_(1e30);
  values[0][0][7][1] = kInfinity;
  for (const auto& input : {RetrieveInput{state, stored, values}, RetrieveInput{state, make(9, 2), make(9, 3)},
                            RetrieveInput{make(20, 1), stored, values}}) {
    const auto found = retrieve(input, RetrieveOptions().backend(Backend::fused));
    const auto expected = retrieve(input, RetrieveOptions().backend(Backend::composite));
    const auto finite = at::isfinite(expected.output);
    EXPECT_TRUE(at::isfinite(found.output).equal(finite));
    EXPECT_LT((found.output - expected.output).masked_select(finite).abs().max().item<double>(), 1e-5);
    EXPECT_TRUE(at::isnan(found.logsumexp).equal(at::isnan(expected.logsumexp)));
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
  for (const auto& [queries, separation] : std::vector<std::pair<int64_t, Separation>>{{3, Separation::softmax()},
                                                                                       {40, Separation::softmax()},
                                                                                       {3, Separation::sparsemax()},
                                                                                       {40, Separation::entmax(1.3)}}) {
    const auto sample = plain_sample({2, 3, queries, 50, 16, 24}, Layout::dense, true, 1, 0.5, 8);
    const auto make = [&](const at::Tensor& tensor) { return layouts_of(tensor.to(at::kFloat)); };
    // State, stored, values, mask, and the gradient that comes in.
    const std::vector<std::vector<at::Tensor>> all{make(sample.input.state), make(sample.input.stored),
                                                   make(sample.input.projection), make(randn({2, 3, queries, 50}, 9)),
                                                   make(randn({2, 3, queries, 24}, 10))};
    const auto results = [&, of = separation](const std::vector<size_t>& layouts) {
      std::vector<at::Tensor> leaves;
      for (size_t i = 0; i < 3; ++i) leaves.push_back(all[i][layouts[i]].detach().requires_grad_(true));
      const auto r = retrieve({leaves[0], leaves[1], leaves[2], {{}, all[3][layouts[3]]}},
                              RetrieveOptions().fixed_steps(1).separation(of).backend(Backend::fused));
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

/// The same numbers with rows that are 4 GiB apart. The memory between them is never touched.
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
      const auto r = retrieve({a, b}, RetrieveOptions().fixed_steps(2).backend(Backend::fused));
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
    for (const auto& [steps, separation] : std::vector<std::pair<int64_t, Separation>>{{0, Separation::softmax()},
                                                                                       {2, Separation::softmax()},
                                                                                       {0, Separation::sparsemax()},
                                                                                       {2, Separation::entmax(1.5)}}) {
      const auto options = RetrieveOptions().fixed_steps(steps).separation(separation);
      const auto fused = retrieve({state, stored, values}, RetrieveOptions(options).backend(Backend::fused));
      const auto plain = retrieve({state, stored, values}, RetrieveOptions(options).backend(Backend::composite));
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

TEST(Fused, SeparatesSparselyWithAnyBeta) {
  for (const auto& separation : {Separation::sparsemax(), Separation::entmax(1.5), Separation::entmax(1.1)}) {
    for (const double beta : {0.0, 1e-6, 0.5, 8.0, 1e3, 1e6, -3.0}) {
      compare(plain_sample({2, 2, 20, 70, 16, 16}, Layout::dense, true, 2, beta, 5, separation), at::kFloat);
      compare(plain_sample({2, 2, 3, 700, 16, 16}, Layout::dense, false, 1, beta, 6, separation), at::kFloat);
      compare(plain_sample({1, 1, 5, 9000, 20, 16}, Layout::ragged, false, 1, beta, 7, separation), at::kBFloat16);
    }
  }
}

/// What is not finite gives what the composite gives, in its own rows.
TEST(Fused, SparseWeightsDoNotHideWhatIsNotFinite) {
  for (const auto& separation : {Separation::sparsemax(), Separation::entmax(1.3)}) {
    auto sample = plain_sample({3, 2, 4, 20, 16, 16}, Layout::dense, true, 1, 0.5, 9, separation);
    const auto clean = run(sample, at::kFloat, Backend::fused, false);
    for (auto* spoilt : {&sample.input.state, &sample.input.stored, &sample.input.projection}) {
      const auto before = spoilt->clone();
      for (const double number : {std::numeric_limits<double>::quiet_NaN(), kInfinity, -kInfinity}) {
        for (const bool whole : {true, false}) {
          const auto place = (*spoilt)[1][0][2];
          (whole ? place : place[3]).fill_(number);
          const auto found = run(sample, at::kFloat, Backend::fused, false),
                     plain = run(sample, at::kFloat, Backend::composite, false);
          for (size_t i = 0; i < 3; ++i) {
            EXPECT_TRUE(at::isnan(found.outputs[i]).equal(at::isnan(plain.outputs[i])))
                << sample.name << number << " " << whole << " " << i;
            EXPECT_TRUE(at::isinf(found.outputs[i]).equal(at::isinf(plain.outputs[i]))) << sample.name << number << i;
            EXPECT_TRUE(bitwise_equal(found.outputs[i][0], clean.outputs[i][0]));
            EXPECT_TRUE(bitwise_equal(found.outputs[i][1][1], clean.outputs[i][1][1]));
          }
          spoilt->copy_(before);
        }
      }
    }
    // Where nothing may be attended to, and where a score is infinite.
    sample.input.masks.association_mask = at::zeros({3, 2, 4, 20}, at::kDouble);
    sample.input.masks.association_mask[1][0][2].fill_(-kInfinity);
    sample.input.masks.association_mask[0][1][3][5] = kInfinity;
    const auto found = run(sample, at::kFloat, Backend::fused), plain = run(sample, at::kFloat, Backend::composite);
    EXPECT_EQ(found.outputs[0][1][0][2].abs().sum().item<double>(), 0);
    EXPECT_EQ(found.gradients[0][1][0][2].abs().sum().item<double>(),
              plain.gradients[0][1][0][2].abs().sum().item<double>());
    for (size_t i = 0; i < 3; ++i) {
      EXPECT_TRUE(at::isnan(found.outputs[i]).equal(at::isnan(plain.outputs[i]))) << sample.name << i;
      EXPECT_TRUE(at::isinf(found.outputs[i]).equal(at::isinf(plain.outputs[i]))) << sample.name << i;
    }
    // The composite has no gradient for the state of the row that is NaN.
    auto of_states = at::isnan(found.gradients[0]);
    EXPECT_TRUE(of_states[0][1][3].all().item<bool>());
    of_states[0][1][3].fill_(false);
    EXPECT_FALSE(of_states.any().item<bool>());
    EXPECT_TRUE(at::isnan(found.gradients[1]).equal(at::isnan(plain.gradients[1]))) << sample.name;
  }
}

/// Where the composite holds several of them.
TEST(Fused, HoldsNoAssociation) {
  const auto state = randn({1, 1, 64, 16}, 1).to(at::kFloat), stored = randn({1, 1, 20'000, 16}, 2).to(at::kFloat);
  const auto association_bytes = int64_t{4} * 64 * 20'000;
  for (const auto& separation : kSeparations) {
    const auto bytes_of = [&](Backend backend, bool trains) {
      return testing::peak_bytes([&] {
        const auto query = state.clone().requires_grad_(trains);
        const auto r =
            retrieve(query, stored, RetrieveOptions().separation(separation).fixed_steps(2).backend(backend));
        if (trains) torch::autograd::grad({r.output.sum()}, {query});
      });
    };
    for (const bool trains : {false, true}) {
      EXPECT_GT(bytes_of(Backend::composite, trains), 2 * association_bytes) << to_string(separation);
      // The gradient of the stored patterns is found along with that of the state.
      EXPECT_LT(bytes_of(Backend::fused, trains), association_bytes / 4 + (trains ? stored.nbytes() : 0))
          << to_string(separation);
    }
  }
}

TEST(Fused, SaysWhyNot) {
  const auto x = at::randn({1, 1, 3, 8}), y = at::randn({1, 1, 5, 8});
  const auto reason = [&](const RetrieveOptions& options) { return why_not_fused({x, y}, options); };
  EXPECT_FALSE(reason(RetrieveOptions().fixed_steps(3)));
  EXPECT_FALSE(reason(RetrieveOptions().until_converged()));
  EXPECT_FALSE(reason(RetrieveOptions().fixed_steps(3).stop_rule(StopRule::per_head)));
  EXPECT_FALSE(reason(RetrieveOptions().with_scores()));
  EXPECT_TRUE(why_not_fused({x.to(at::kDouble), y.to(at::kDouble)}));
  auto spoilt = y.clone();
  spoilt[0][0][4].fill_(kInfinity);
  auto padding = at::zeros({1, 5}, at::kBool);
  padding[0][4] = true;
  EXPECT_FALSE(why_not_fused({x, spoilt, {}, {padding}}));
  EXPECT_TRUE(why_not_fused({x, spoilt, {}, {padding.bitwise_not()}}));
  EXPECT_TRUE(at::isfinite(retrieve({x, spoilt, {}, {padding}}).output).all().item<bool>());
}

}  // namespace
}  // namespace hopfield
