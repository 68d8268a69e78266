#include "support/errors.h"

#include "support/member.h"
#include <hopfield/ops/pool.h>

#include <ATen/ATen.h>

#include <cmath>

namespace hopfield {
namespace {

using testing::expect_error;
using testing::WrongCall;

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

at::Tensor floats(at::IntArrayRef sizes) { return at::zeros(sizes); }
at::Tensor bools(at::IntArrayRef sizes) { return at::zeros(sizes, at::kBool); }

/// A sound call [N 2, H 3, L 4, S 5, d 6], to be spoiled.
RetrieveInput sound() { return {floats({2, 3, 4, 6}), floats({2, 3, 5, 6})}; }

RetrieveInput with(std::function<void(RetrieveInput&)> change) {
  auto input = sound();
  change(input);
  return input;
}

std::function<void()> call(std::function<void(RetrieveInput&)> change, RetrieveOptions options = {}) {
  return [=] { retrieve(with(change), options); };
}

std::function<void()> set(testing::Member<RetrieveInput> argument, const at::Tensor& value) {
  return call([=](RetrieveInput& input) { argument(input) = value; });
}

std::function<void()> call(RetrieveOptions options) {
  return [=] { retrieve(sound(), options); };
}

TEST(RetrieveErrors, NameTheArgumentTheExpectationAndWhatCame) {
  using I = RetrieveInput;
  const auto meta = at::TensorOptions().device(at::kMeta);
  const std::vector<WrongCall> calls{
      {"no state",
       [] {
         retrieve(at::Tensor(), floats({2, 2}));
       },
       {"no state"}},
      {"no stored",
       [] {
         retrieve(floats({2, 2}), at::Tensor());
       },
       {"no stored"}},
      {"state of rank 1", set(&I::state, floats({6})), {"state", "4 dimensions [N, H, L, d]", "[6]"}},
      {"state of rank 5", set(&I::state, floats({1, 1, 1, 1, 6})), {"state", "4 dimensions"}},
      {"integer state", call([](I& i) { i.state = i.state.to(at::kLong); }), {"state", "floating-point", "Long"}},
      {"complex state", call([](I& i) { i.state = i.state.to(at::kComplexFloat); }), {"state", "floating-point"}},
      {"stored of rank 3",
       set(&I::stored, floats({3, 5, 6})),
       {"stored", "4 dimensions [N or 1, H or 1, S, d]", "[3, 5, 6]"}},
      {"stored of another batch", set(&I::stored, floats({4, 3, 5, 6})), {"stored", "batch size 2", "[4, 3, 5, 6]"}},
      {"stored of other heads", set(&I::stored, floats({2, 2, 5, 6})), {"stored", "3 heads", "[2, 2, 5, 6]"}},
      {"stored of another depth", set(&I::stored, floats({2, 3, 5, 7})), {"stored", "6 features", "[2, 3, 5, 7]"}},
      {"stored of another type",
       call([](I& i) { i.stored = i.stored.to(at::kDouble); }),
       {"stored", "Float", "Double"}},
      {"stored on another device",
       call([=](I& i) {
         i.stored = at::zeros({2, 3, 5, 6}, meta);
       }),
       {"stored", "device", "cpu", "meta"}},
      {"projection of rank 2", set(&I::projection, floats({5, 6})), {"projection", "4 dimensions"}},
      {"projection with fewer patterns",
       set(&I::projection, floats({2, 3, 4, 6})),
       {"projection", "5 patterns", "[2, 3, 4, 6]"}},
      {"projection of another type",
       set(&I::projection, floats({2, 3, 5, 6}).to(at::kHalf)),
       {"projection", "Float", "Half"}},
      {"projection of another batch", set(&I::projection, floats({3, 3, 5, 6})), {"projection", "batch size 2"}},
      {"mask of a wrong size",
       set(&Masks::association_mask, bools({4, 6})),
       {"association_mask", "[L, S] = [4, 5]", "[4, 6]"}},
      {"mask of rank 3", set(&Masks::association_mask, bools({2, 4, 5})), {"association_mask", "[2, 4, 5]"}},
      {"mask of rank 1", set(&Masks::association_mask, bools({5})), {"association_mask", "[5]"}},
      {"mask of other heads", set(&Masks::association_mask, bools({2, 2, 4, 5})), {"association_mask", "[2, 2, 4, 5]"}},
      {"integer mask",
       set(&Masks::association_mask, bools({4, 5}).to(at::kLong)),
       {"association_mask", "bool", "Long"}},
      {"mask on another device",
       call([=](I& i) {
         i.masks.association_mask = at::zeros({4, 5}, meta);
       }),
       {"association_mask", "device", "meta"}},
      {"padding of a wrong size",
       set(&Masks::padding_mask, bools({2, 4})),
       {"padding_mask", "[N, S] = [2, 5]", "[2, 4]"}},
      {"padding of rank 1", set(&Masks::padding_mask, bools({5})), {"padding_mask", "[N, S]"}},
      {"float padding", set(&Masks::padding_mask, floats({2, 5})), {"padding_mask", "bool", "Float"}},
      {"key bias of a wrong size", set(&Masks::key_bias, floats({2, 6})), {"key_bias", "[2, 6]"}},
      {"bool key bias", set(&Masks::key_bias, bools({2, 5})), {"key_bias", "floating-point", "Bool"}},
      {"offsets for rank 2",
       [] {
         retrieve(I{floats({4, 6}), floats({5, 6}), {}, {}, at::tensor({0, 5})});
       },
       {"batch dimension", "offsets"}},
      {"ragged stored of rank 4",
       set(&I::offsets, at::tensor({0, 2, 5})),
       {"stored", "3 dimensions [total, H or 1, d]"}},
      {"offsets that end early",
       call([](I& i) {
         i.stored = floats({5, 3, 6});
         i.offsets = at::tensor({0, 2, 4});
       }),
       {"offsets", "0 to 5", "0 to 4"}},
      {"offsets that fall",
       call([](I& i) {
         i.stored = floats({5, 3, 6});
         i.offsets = at::tensor({0, 6, 5});
       }),
       {"offsets", "never fall"}},
      {"too many bags",
       call([](I& i) {
         i.stored = floats({5, 3, 6});
         i.offsets = at::tensor({0, 2, 3, 5});
       }),
       {"offsets", "3 entries"}},
      {"float offsets",
       call([](I& i) {
         i.stored = floats({5, 3, 6});
         i.offsets = at::tensor({0.0, 2.0, 5.0});
       }),
       {"offsets", "integers"}},
      {"mask and offsets",
       call([](I& i) {
         i.stored = floats({5, 3, 6});
         i.offsets = at::tensor({0, 2, 5});
         i.masks.association_mask = bools({4, 5});
       }),
       {"no association_mask", "offsets"}},
      {"padding and offsets",
       call([](I& i) {
         i.stored = floats({5, 3, 6});
         i.offsets = at::tensor({0, 2, 5});
         i.masks.padding_mask = bools({2, 5});
       }),
       {"no padding_mask", "offsets"}},
      {"NaN beta", call(RetrieveOptions().beta(kNaN)), {"beta", "finite", "nan"}},
      {"infinite beta",
       call(RetrieveOptions().beta(std::numeric_limits<double>::infinity())),
       {"beta", "finite", "inf"}},
      {"beta for other heads", call(RetrieveOptions().beta({1.0, 2.0})), {"beta", "3 heads", "[2]"}},
      {"beta of rank 2", call(RetrieveOptions().beta(floats({3, 1}))), {"beta", "[3, 1]"}},
      {"integer beta", call(RetrieveOptions().beta(at::tensor(2))), {"beta", "floating-point"}},
      {"energy at beta 0", call(RetrieveOptions().beta(0.0).with_energy()), {"beta", "positive", "energy"}},
      {"steps for other heads",
       call(RetrieveOptions().update_steps_max({1, 2})),
       {"update_steps_max", "3 heads", "2 values"}},
      {"thresholds for other heads",
       call(RetrieveOptions().update_steps_eps({1e-3, 1e-3})),
       {"update_steps_eps", "3 heads"}},
      {"negative threshold",
       call(RetrieveOptions().update_steps_eps(-1.0)),
       {"update_steps_eps", "not negative", "-1"}},
      {"NaN threshold", call(RetrieveOptions().update_steps_eps(kNaN)), {"update_steps_eps", "finite", "nan"}},
      {"until converged without threshold",
       call(RetrieveOptions().until_converged().update_steps_eps(0.0)),
       {"update_steps_eps", "until converged"}},
      {"no cap",
       call(RetrieveOptions().until_converged().update_steps_cap(0)),
       {"update_steps_cap", "at least 1", "0"}},
      {"negative last(k)", call(RetrieveOptions().gradient(Gradient::last(-1))), {"last(k)", "last(-1)"}},
      {"entmax that is softmax",
       call(RetrieveOptions().separation(Separation::entmax(1))),
       {"hopfield::retrieve: expected the alpha of separation entmax(alpha)", "above 1", "at most 2", "got 1",
        "softmax"}},
      {"alpha below 1", call(RetrieveOptions().separation(Separation::entmax(0.5))), {"alpha", "above 1", "got 0.5"}},
      {"alpha above 2", call(RetrieveOptions().separation(Separation::entmax(2.5))), {"alpha", "at most 2", "got 2.5"}},
      {"NaN alpha", call(RetrieveOptions().separation(Separation::entmax(kNaN))), {"alpha", "above 1", "got nan"}},
      {"implicit with fixed steps",
       call(RetrieveOptions().update_steps_max(3).gradient(Gradient::implicit())),
       {"until_converged", "implicit"}},
      {"implicit with one fixed head",
       call(RetrieveOptions().update_steps_max({-1, -1, 3}).gradient(Gradient::implicit())),
       {"until_converged", "implicit"}},
      {"dropout above 1", call(RetrieveOptions().dropout(1.5)), {"dropout", "between 0 and 1", "1.5"}},
      {"negative dropout", call(RetrieveOptions().dropout(-0.1)), {"dropout", "between 0 and 1"}},
      {"NaN dropout", call(RetrieveOptions().dropout(kNaN)), {"dropout", "nan"}},
      {"fused backend",
       [=] {
         retrieve(at::zeros({2, 2}, at::kDouble), at::zeros({3, 2}, at::kDouble),
                  RetrieveOptions().backend(Backend::fused));
       },
       {"fused", "backend automatic"}},
      {"sparse state",
       [=] {
         retrieve(at::ones({2, 2}).to_sparse(), at::ones({3, 2}));
       },
       {"state", "dense", "Sparse"}},
      {"sparse mask",
       [=] {
         RetrieveInput i;
         i.state = i.stored = at::ones({2, 2});
         i.masks.association_mask = at::ones({2, 2}).to_sparse();
         retrieve(i);
       },
       {"association_mask", "dense", "Sparse"}},
  };
  for (const auto& wrong : calls) expect_error(wrong);
  EXPECT_GE(calls.size(), 50u);
  // An unrelated call afterwards is sound.
  EXPECT_EQ(retrieve(sound()).output.sizes(), at::IntArrayRef({2, 3, 4, 6}));
}

TEST(PoolErrors, NameTheArgumentTheExpectationAndWhatCame) {
  const auto sound = [] {
    return PoolInput{at::zeros({1, 3, 2, 6}), at::zeros({2, 5, 4}), at::zeros({3, 6, 4}), at::zeros({3, 6})};
  };
  const auto call = [&](std::function<void(PoolInput&)> change, RetrieveOptions options = {}) {
    auto input = sound();
    change(input);
    return std::function<void()>([=] { pool(input, options); });
  };
  using I = PoolInput;
  for (const auto& wrong :
       std::vector<WrongCall>{{"nothing", [] { pool({}); }, {"no instances"}},
                              {"ragged without offsets",
                               call([](I& i) {
                                 i.instances = at::zeros({5, 4});
                               }),
                               {"instances", "[N, S, d_in]", "[5, 4]"}},
                              {"dense with offsets",
                               call([](I& i) {
                                 i.offsets = at::tensor({0, 2, 5});
                               }),
                               {"instances", "[total, d_in]"}},
                              {"integers",
                               call([](I& i) {
                                 i.instances = at::zeros({2, 5, 4}, at::kLong);
                               }),
                               {"instances", "floating-point", "Long"}},
                              {"weight of another width",
                               call([](I& i) {
                                 i.weight = at::zeros({3, 6, 5});
                               }),
                               {"weight", "d_in = 4", "[3, 6, 5]"}},
                              {"bias",
                               call([](I& i) {
                                 i.bias = at::zeros({3, 5});
                               }),
                               {"bias", "[3, 6]", "[3, 5]"}},
                              {"state of other heads",
                               call([](I& i) {
                                 i.state = at::zeros({1, 2, 2, 6});
                               }),
                               {"state", "[1, 2, 2, 6]"}},
                              {"state of another batch",
                               call([](I& i) {
                                 i.state = at::zeros({3, 3, 2, 6});
                               }),
                               {"state", "[3, 3, 2, 6]"}},
                              {"types",
                               call([](I& i) {
                                 i.weight = at::zeros({3, 6, 4}, at::kDouble);
                               }),
                               {"weight", "Float", "Double"}},
                              {"eps", call([](I& i) { i.normalize_eps = -1.0; }), {"normalize_eps", "-1"}},
                              {"padding",
                               call([](I& i) {
                                 i.masks.padding_mask = at::zeros({2, 4}, at::kBool);
                               }),
                               {"padding_mask", "[2, 5]", "[2, 4]"}},
                              {"offsets",
                               call([](I& i) {
                                 i.instances = at::zeros({5, 4});
                                 i.offsets = at::tensor({0, 2, 4});
                               }),
                               {"offsets"}},
                              {"energy", call([](I&) {}, RetrieveOptions().with_energy()), {"energy", "retrieve"}},
                              {"why, with energy",
                               [&] { why_not_fused(sound(), RetrieveOptions().with_energy()); },
                               {"energy", "retrieve"}},
                              {"beta", call([](I&) {}, RetrieveOptions().beta(std::nan(""))), {"beta", "finite"}},
                              {"alpha",
                               call([](I&) {}, RetrieveOptions().separation(Separation::entmax(2.5))),
                               {"hopfield::pool", "alpha", "at most 2", "got 2.5"}}}) {
    expect_error(wrong);
  }
}

}  // namespace
}  // namespace hopfield
