#include "support/allocations.h"
#include "support/errors.h"
#include "support/naive.h"
#include <hopfield/core/bags.h>
#include <hopfield/core/update.h>
#include <hopfield/nn/hopfield_pooling.h>
#include <hopfield/theory/heads.h>

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace hopfield::theory {
namespace {

using hopfield::testing::bitwise_equal;
using hopfield::testing::expect_error;
using hopfield::testing::max_difference;
using hopfield::testing::randn;
using hopfield::testing::WrongCall;

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// [keys] of which k, at random places, are equal and needed for 0.9 of the sum, which is 1. k <= 0.9 keys
at::Tensor row_of(int64_t k, int64_t keys, uint64_t seed) {
  const auto count = static_cast<double>(k);
  const auto carried = k == 1 ? 0.95 : std::min(0.95, 0.9 * (count - 0.5) / (count - 1));
  auto row = at::full({keys}, (1 - carried) / static_cast<double>(keys - k), at::kDouble);
  row.narrow(0, 0, k).fill_(carried / count);
  return row.index({at::randperm(keys, at::detail::createCPUGenerator(seed), at::kLong)});
}

int64_t class_of(int64_t k, int64_t keys) { return 2 * k > keys ? 1 : 8 * k > keys ? 2 : 32 * k > keys ? 3 : 4; }

at::Tensor random_association(at::IntArrayRef shape, uint64_t seed, double sharpness = 3.0) {
  return (randn(shape, seed) * sharpness).softmax(-1);
}

void expect_same(const HeadClasses& found, const HeadClasses& expected, double tolerance = 1e-12) {
  EXPECT_TRUE(found.classes.equal(expected.classes)) << found.classes << expected.classes;
  EXPECT_TRUE(found.queries.equal(expected.queries)) << found.queries << expected.queries;
  EXPECT_TRUE(found.histogram.equal(expected.histogram));
  EXPECT_TRUE(found.class_four_possible.equal(expected.class_four_possible));
  EXPECT_LE(max_difference(found.median_k90, expected.median_k90), 0.0);
  EXPECT_LE(max_difference(found.median_share, expected.median_share), 0.0);
  EXPECT_LE(max_difference(found.entropy, expected.entropy), tolerance);
}

TEST(Heads, AThousandHeadsHaveTheirClasses) {
  constexpr int64_t kHeads = 1000, kKeys = 128, kMost = 115;
  // The queries of a head have another k on each side of the middle one.
  std::vector<at::Tensor> rows;
  std::vector<int64_t> classes, medians;
  for (int64_t head = 0; head < kHeads; ++head) {
    const auto k = 1 + head % kMost;
    for (const auto one : {std::min(k + 7, kMost), k, std::max<int64_t>(k - 3, 1)}) {
      rows.push_back(row_of(one, kKeys, rows.size()));
    }
    medians.push_back(k);
    classes.push_back(class_of(k, kKeys));
  }
  const auto association = at::stack(rows).view({1, kHeads, 3, kKeys});
  for (const auto type : {at::kDouble, at::kFloat}) {
    const auto heads = classify_heads(association.to(type));
    EXPECT_TRUE(heads.classes.equal(at::tensor(classes)));
    EXPECT_TRUE(heads.median_k90.equal(at::tensor(medians).to(at::kDouble)));
    EXPECT_TRUE(heads.histogram.sum(-1).equal(at::full({kHeads}, 3, at::kLong)));
    EXPECT_EQ(heads.note(), "");
  }
  for (const int64_t head_class : {1, 2, 3, 4}) EXPECT_GT(std::count(classes.begin(), classes.end(), head_class), 20);
}

TEST(Heads, TheBoundsBelongToTheClassBelow) {
  for (const int64_t keys : {32, 64, 96, 160, 4096}) {
    for (const auto& [k, head_class] : std::vector<std::pair<int64_t, int64_t>>{
             {keys / 2 + 1, 1}, {keys / 2, 2}, {keys / 8 + 1, 2}, {keys / 8, 3}, {keys / 32 + 1, 3}, {keys / 32, 4}}) {
      const auto heads = classify_heads(row_of(k, keys, 1).view({1, 1, 1, keys}));
      EXPECT_EQ(heads.classes.item<int64_t>(), head_class) << k << " of " << keys;
      EXPECT_EQ(heads.median_share.item<double>(), static_cast<double>(k) / static_cast<double>(keys));
      EXPECT_TRUE(heads.class_four_possible.item<bool>());
    }
  }
}

TEST(Heads, SumsThatReachNineTenthsButForRoundingReachThem) {
  for (const auto type : {at::kDouble, at::kFloat, at::kHalf, at::kBFloat16}) {
    for (const int64_t keys : {10, 30, 100, 1000}) {
      const auto heads = classify_heads(at::zeros({1, 1, keys}, at::kDouble).softmax(-1).to(type));
      EXPECT_EQ(heads.median_k90.item<double>(), static_cast<double>(keys) * 0.9) << type << " " << keys;
    }
  }
}

TEST(Heads, EntropyHistogramAndMedianAreWhatTheySay) {
  const auto row = [](std::vector<double> weights) { return at::tensor(weights, at::kDouble); };
  // k90 is 1, 2, 4 and 4; the fifth row has no weights.
  const auto association = at::stack({row({1, 0, 0, 0}), row({0.5, 0.5, 0, 0}), row({0.25, 0.25, 0.25, 0.25}),
                                      row({2, 2, 2, 2}), row({0, 0, 0, 0})})
                               .unsqueeze(0);
  const auto heads = classify_heads(association);
  EXPECT_NEAR(heads.entropy.item<double>(), (0.0 + std::log(2.0) + 2 * std::log(4.0)) / 4, 1e-15);
  EXPECT_TRUE(heads.histogram.equal(at::tensor({0, 1, 1, 0, 2}).to(at::kLong).unsqueeze(0)));
  EXPECT_EQ(heads.queries.item<int64_t>(), 4);
  EXPECT_EQ(heads.median_k90.item<double>(), 2.0);  // the lower one of 2 and 4
  EXPECT_EQ(heads.median_share.item<double>(), 0.5);
  EXPECT_STREQ(head_class_name(heads.classes.item<int64_t>()), "II");
}

TEST(Heads, FewKeysCannotBeOfClassFourAndTheNoteSaysSo) {
  const auto association = random_association({2, 3, 5, 31}, 1, 50.0);
  const auto heads = classify_heads(association);
  EXPECT_TRUE(heads.classes.equal(at::full({3}, 3, at::kLong)));
  EXPECT_FALSE(heads.class_four_possible.any().item<bool>());
  EXPECT_EQ(heads.note(), "Class IV cannot occur with fewer than 32 live keys, which is so of heads 0, 1, 2.");
  const auto more = classify_heads(random_association({2, 3, 5, 32}, 1, 50.0));
  EXPECT_TRUE(more.classes.equal(at::full({3}, 4, at::kLong)));
  EXPECT_EQ(more.note(), "");
  // 32 keys of which one is masked for one head alone.
  auto mask = at::zeros({1, 3, 1, 32}, at::kBool);
  mask[0][1][0][5] = true;
  EXPECT_EQ(classify_heads(random_association({2, 3, 5, 32}, 1, 50.0), {{}, mask}).note(),
            "Class IV cannot occur with fewer than 32 live keys, which is so of head 1.");
}

TEST(Heads, PaddedAndRaggedBagsAreTheSameAsUnpadded) {
  const std::vector<int64_t> sizes{40, 7, 0, 64, 33};
  std::vector<at::Tensor> bags, padded, masks;
  for (size_t n = 0; n < sizes.size(); ++n) {
    const auto bag = random_association({3, 4, sizes[n]}, n);
    bags.push_back(bag.permute({2, 0, 1}));
    padded.push_back(at::constant_pad_nd(bag, {0, 70 - sizes[n]}, kNaN));
    masks.push_back(at::arange(70) >= sizes[n]);
  }
  auto offsets = at::zeros({6}, at::kLong);
  std::partial_sum(sizes.begin(), sizes.end(), offsets.data_ptr<int64_t>() + 1);
  const auto ragged = classify_heads_of_bags(at::cat(bags), offsets);
  expect_same(classify_heads(at::stack(padded), at::stack(masks)), ragged);
  EXPECT_TRUE(ragged.queries.equal(at::full({3}, 16, at::kLong)));  // the empty bag has none
  // One bag alone, without padding and with it, and with keys that a key bias excludes.
  const auto alone = classify_heads(bags[0].permute({1, 2, 0}));
  expect_same(classify_heads(padded[0], masks[0]), alone);
  const auto bias = at::zeros({70}, at::kDouble).masked_fill(masks[0], -kInfinity);
  expect_same(classify_heads(padded[0], {{}, {}, bias}), alone);
  expect_same(classify_heads_of_bags(padded[0].permute({2, 0, 1}), at::tensor({0, 70}).to(at::kLong), bias), alone);
}

TEST(Heads, AssociationMasksOfAllShapesExcludeTheirKeys) {
  const auto association = random_association({2, 3, 5, 40}, 1);
  const auto excluded = at::rand({2, 3, 5, 40}, at::detail::createCPUGenerator(2), at::kDouble) < 0.3;
  auto dead = excluded.clone();
  dead[1][2][4].fill_(true);
  for (const auto& mask :
       {dead, dead.narrow(0, 1, 1), dead.narrow(1, 2, 1), dead.narrow(2, 3, 1), dead[0][0], dead.flatten(0, 1)}) {
    const auto full = mask.dim() == 3 ? mask.view({2, 3, 5, 40}) : mask.expand({2, 3, 5, 40});
    const auto heads = classify_heads(association.masked_fill(full, kNaN), {{}, mask});
    // Each query by itself, of the keys that are left.
    for (int64_t h = 0; h < 3; ++h) {
      std::vector<double> shares, all_k;
      for (int64_t q = 0; q < 10; ++q) {
        const auto weights = association[q / 5][h][q % 5].masked_select(full[q / 5][h][q % 5].logical_not());
        if (weights.numel() == 0) continue;
        const auto sums = std::get<0>(weights.sort(0, true)).cumsum(0);
        const auto k = (sums < 0.9 * weights.sum()).sum().item<int64_t>() + 1;
        shares.push_back(static_cast<double>(k) / static_cast<double>(weights.numel()));
        all_k.push_back(static_cast<double>(k));
      }
      std::sort(shares.begin(), shares.end());
      std::sort(all_k.begin(), all_k.end());
      EXPECT_EQ(heads.queries[h].item<int64_t>(), static_cast<int64_t>(shares.size()));
      EXPECT_EQ(heads.median_share[h].item<double>(), shares[(shares.size() - 1) / 2]);
      EXPECT_EQ(heads.median_k90[h].item<double>(), all_k[(all_k.size() - 1) / 2]);
    }
    const auto added = at::zeros(mask.sizes(), at::kFloat).masked_fill(mask, -kInfinity);
    expect_same(classify_heads(association, {{}, added}), heads);
  }
}

TEST(Heads, WithoutAnyLiveQueryThereIsNoClass) {
  const auto association = random_association({1, 2, 3, 8}, 1);
  const auto heads = classify_heads(association, at::ones({1, 8}, at::kBool));
  EXPECT_TRUE(heads.classes.equal(at::zeros({2}, at::kLong)));
  EXPECT_TRUE(heads.median_share.isnan().all().item<bool>());
  EXPECT_TRUE(heads.entropy.isnan().all().item<bool>());
  EXPECT_EQ(heads.note(), "");
  EXPECT_TRUE(classify_heads(association.narrow(2, 0, 0)).classes.equal(at::zeros({2}, at::kLong)));
  EXPECT_TRUE(classify_heads(association.narrow(3, 0, 0)).classes.equal(at::zeros({2}, at::kLong)));
}

TEST(Heads, QueriesOfTheQueryMaskDoNotCount) {
  const auto association = random_association({2, 3, 6, 40}, 1);
  auto mask = at::zeros({2, 6}, at::kBool);
  mask.narrow(1, 4, 2).fill_(true);
  const auto heads = classify_heads(association.masked_fill(mask.view({2, 1, 6, 1}), kNaN), {},
                                    HeadOptions().query_mask(mask).tile(1));
  expect_same(heads, classify_heads(association.narrow(2, 0, 4)));
}

TEST(Heads, TilesChangeNothing) {
  const auto association = random_association({4, 3, 9, 40}, 1);
  const auto padding = at::rand({4, 40}, at::detail::createCPUGenerator(2), at::kDouble) < 0.3;
  const auto mask = at::rand({9, 40}, at::detail::createCPUGenerator(3), at::kDouble) < 0.3;
  const auto whole = classify_heads(association, {padding, mask});
  for (const int64_t tile : {1, 3 * 40 * 2, 3 * 40 * 20, 3 * 40 * 36}) {
    expect_same(classify_heads(association, {padding, mask}, HeadOptions().tile(tile)), whole);
  }
}

TEST(Heads, ScoresGiveTheSameAsTheirWeights) {
  const auto padding = at::rand({2, 40}, at::detail::createCPUGenerator(2), at::kDouble) < 0.3;
  auto dead = padding.clone();
  dead[1].fill_(true);
  const auto r = retrieve({randn({2, 3, 5, 8}, 3), randn({2, 3, 40, 8}, 4), {}, dead},
                          RetrieveOptions().beta(2.0).fixed_steps(1).with_scores());
  const auto expected = classify_heads(core::association(r.scores), dead);
  EXPECT_TRUE(expected.queries.equal(at::full({3}, 5, at::kLong)));
  expect_same(classify_heads_by_scores(r.scores, r.logsumexp), expected);
  expect_same(classify_heads_by_scores(r.scores, r.logsumexp, dead, HeadOptions().tile(200)), expected);
  const auto raw = randn({3, 5, 40}, 5) * 4;
  expect_same(classify_heads_by_scores(raw, at::logsumexp(raw, -1)), classify_heads(raw.softmax(-1)));
}

TEST(Heads, LayersAreClassifiedInTilesOfQueries) {
  const auto x = randn({3, 20, 16}, 1).to(at::kFloat), y = randn({3, 36, 16}, 2).to(at::kFloat);
  const auto padding = at::rand({3, 36}, at::detail::createCPUGenerator(3), at::kFloat) < 0.3;
  const auto shared = at::rand({20, 36}, at::detail::createCPUGenerator(4), at::kFloat) < 0.2;
  const auto own = at::rand({6, 20, 36}, at::detail::createCPUGenerator(5), at::kFloat) < 0.2;
  for (auto options :
       {nn::HopfieldOptions(16), nn::HopfieldOptions(16).update_steps_max(2),
        nn::HopfieldOptions(16).separation(Separation::sparsemax()), nn::HopfieldOptions(16).add_zero_association(true),
        nn::HopfieldOptions(16).update_steps_max(3).stop_rule(StopRule::per_head)}) {
    nn::Hopfield layer(options.num_heads(2).scaling(20.0));
    layer->association_core->in_proj_weight.detach().mul_(20);
    for (const auto& masks : {Masks(), Masks(padding), Masks(padding, shared), Masks({}, own), Masks({}, {}, {}, true),
                              Masks(padding, own, {}, true)}) {
      const auto whole = layer->associate({x, y}, masks, nn::AssociationRequest().with_association());
      const auto expected = classify_heads(whole.association, {{}, whole.scores.isneginf()});
      for (const int64_t tile : {1, 2 * 36 * 7, 2 * 36 * 40, 1 << 20}) {
        expect_same(classify_heads(layer, {x, y}, masks, HeadOptions().tile(tile)), expected, 1e-4);
      }
    }
    const auto one = classify_heads(layer, {x[1], y[1]}, Masks(padding[1], shared), HeadOptions().tile(300));
    expect_same(one, classify_heads(layer, {x.narrow(0, 1, 1), y.narrow(0, 1, 1)}, {padding.narrow(0, 1, 1), shared}),
                1e-4);
    // State patterns that the batch shares, and patterns that are not batch first.
    const auto shared_state = classify_heads(layer, {x.narrow(0, 1, 1), y}, padding, HeadOptions().tile(300));
    expect_same(shared_state, classify_heads(layer, {x.narrow(0, 1, 1).repeat({3, 1, 1}), y}, padding), 1e-4);
    nn::Hopfield other(nn::HopfieldOptions(layer->options).batch_first(false));
    other->association_core = layer->association_core;
    expect_same(classify_heads(other, {x.transpose(0, 1), y.transpose(0, 1)}, padding, HeadOptions().tile(300)),
                classify_heads(layer, {x, y}, padding), 1e-4);
  }
}

TEST(Heads, ALayersAssociationIsNeverHeldAsAWhole) {
  const auto x = randn({2, 1024, 16}, 1).to(at::kFloat);
  nn::Hopfield layer(nn::HopfieldOptions(16).num_heads(2).update_steps_max(1));
  const auto options = HeadOptions().tile(2 * 1024 * 8);
  HeadClasses heads;
  const auto peak = hopfield::testing::peak_bytes([&] { heads = classify_heads(layer, {x, x}, {}, options); });
  EXPECT_TRUE(heads.queries.equal(at::full({2}, 2048, at::kLong)));
  EXPECT_LT(peak, 2 * 2 * 1024 * 1024 * 4 / 8);  // an eighth of the association alone, in float32
}

TEST(Heads, PaddingOfSelfAssociationCountsNeitherAsKeyNorAsQuery) {
  const auto x = randn({1, 40, 16}, 1).to(at::kFloat);
  auto padded = at::constant_pad_nd(x, {0, 0, 0, 9}, kNaN);
  const auto mask = (at::arange(49) >= 40).unsqueeze(0);
  nn::Hopfield layer(nn::HopfieldOptions(16).num_heads(2).scaling(5.0));
  layer->association_core->in_proj_weight.detach().mul_(20);
  const auto expected = classify_heads(layer, {x, x});
  EXPECT_TRUE(expected.queries.equal(at::full({2}, 40, at::kLong)));
  for (const int64_t tile : {1, 500, 1 << 20}) {
    expect_same(classify_heads(layer, {padded, padded}, mask, HeadOptions().tile(tile)), expected, 1e-5);
  }
}

TEST(Heads, ScoresOfAPoolingAreThoseOfBags) {
  nn::HopfieldPooling pooling(nn::HopfieldPoolingOptions(8).num_heads(2).quantity(3).scaling(4.0));
  const auto bags =
      BagBatch::from(std::vector<at::Tensor>{randn({50, 8}, 1).to(at::kFloat), randn({9, 8}, 2).to(at::kFloat)});
  const auto heads = classify_heads_of_bags(pooling->instance_scores(bags).weights, bags.offsets);
  const auto padded = bags.padded();
  const auto expected =
      classify_heads(pooling->get_association_matrix({padded.values}, padded.padding_mask), padded.padding_mask);
  expect_same(heads, expected, 1e-5);
}

TEST(Heads, WrongCallsAreRefused) {
  const auto a = random_association({2, 3, 5, 8}, 1);
  const auto bags = a[0].permute({2, 0, 1});  // [8, 3, 5]
  const auto offsets = at::tensor({0, 3, 8}).to(at::kLong);
  const auto padding = at::zeros({2, 8}, at::kBool);
  auto negative = a.clone(), not_a_number = a.clone();
  negative[1][2][3][4] = -0.25;
  not_a_number[1][2][3][4] = kNaN;
  nn::Hopfield layer(nn::HopfieldOptions(16).num_heads(2));
  const auto x = at::zeros({2, 5, 16}), y = at::zeros({2, 8, 16});
  const std::vector<WrongCall> calls{
      {"no association", [&] { classify_heads(at::Tensor()); }, {"association", "undefined"}},
      {"integers", [&] { classify_heads(a.to(at::kLong)); }, {"association", "floating-point", "Long"}},
      {"two dimensions", [&] { classify_heads(a[0][0]); }, {"[N, H, L, S]", "[5, 8]"}},
      {"negative", [&] { classify_heads(negative); }, {"not negative", "-0.25"}},
      {"NaN", [&] { classify_heads(not_a_number); }, {"finite", "nan"}},
      {"infinite", [&] { classify_heads(a / 0.0); }, {"finite", "inf"}},
      {"padding for other keys",
       [&] { classify_heads(a, padding.narrow(1, 0, 7)); },
       {"padding_mask", "[2, 8]", "[2, 7]"}},
      {"padding without a batch", [&] { classify_heads(a, padding[0]); }, {"padding_mask", "[2, 8]", "[8]"}},
      {"padding of numbers", [&] { classify_heads(a, padding.to(at::kFloat)); }, {"padding_mask", "bool", "Float"}},
      {"mask of integers",
       [&] {
         classify_heads(a, {{}, at::zeros({5, 8}, at::kInt)});
       },
       {"association_mask", "Int"}},
      {"mask of other shape",
       [&] {
         classify_heads(a, {{}, at::zeros({8, 5})});
       },
       {"association_mask", "[5, 8]", "[8, 5]"}},
      {"mask of one batch element",
       [&] {
         classify_heads(a, {{}, at::zeros({3, 5, 8})});
       },
       {"association_mask", "[N * H, L, S]", "[3, 5, 8]"}},
      {"key bias of bools",
       [&] {
         classify_heads(a, {{}, {}, padding});
       },
       {"key_bias", "floating-point", "Bool"}},
      {"query mask of keys",
       [&] { classify_heads(a, {}, HeadOptions().query_mask(padding)); },
       {"query_mask", "[2, 5]"}},
      {"no tile", [&] { classify_heads(a, {}, HeadOptions().tile(0)); }, {"tile", "positive", "0"}},
      {"logsumexp of other queries",
       [&] {
         classify_heads_by_scores(a, at::zeros({2, 3, 4}));
       },
       {"logsumexp", "[2, 3, 5]", "[2, 3, 4]"}},
      {"no logsumexp", [&] { classify_heads_by_scores(a, {}); }, {"logsumexp", "undefined"}},
      {"scores of integers", [&] { classify_heads_by_scores(a.to(at::kLong), a.sum(-1)); }, {"scores", "Long"}},
      {"NaN in scores", [&] { classify_heads_by_scores(not_a_number, a.sum(-1)); }, {"finite", "nan"}},
      {"bags of four dimensions", [&] { classify_heads_of_bags(a, offsets); }, {"[total, H, L]", "[2, 3, 5, 8]"}},
      {"offsets too short", [&] { classify_heads_of_bags(bags, offsets.narrow(0, 0, 2)); }, {"offsets", "0 to 8"}},
      {"key bias of other bags",
       [&] { classify_heads_of_bags(bags, offsets, at::zeros({7})); },
       {"key_bias", "[8]", "[7]"}},
      {"query mask of bags",
       [&] { classify_heads_of_bags(bags, offsets, {}, HeadOptions().query_mask(padding)); },
       {"query_mask", "bags"}},
      {"an empty holder",
       [&] {
         classify_heads(nn::Hopfield(nullptr), {x, y});
       },
       {"layer", "empty"}},
      {"a layer without stored patterns",
       [&] {
         classify_heads(layer, {x, {}});
       },
       {"stored", "undefined"}},
      {"a layer of mixed dimensions",
       [&] {
         classify_heads(layer, {x, y[0]});
       },
       {"3 dimensions", "[8, 16]"}},
      {"a layer's mask of queries",
       [&] {
         classify_heads(layer, {x, y}, at::zeros({2, 5}, at::kBool));
       },
       {"padding_mask", "[2, 8]"}},
      {"a layer's mask of four dimensions",
       [&] {
         classify_heads(layer, {x, y}, {{}, at::zeros({2, 2, 5, 8})});
       },
       {"association_mask", "[N * num_heads, L, S]"}},
      {"a layer of another width",
       [&] {
         classify_heads(layer, {x.narrow(2, 0, 9), y});
       },
       {"state", "9"}},
      {"no such class", [&] { head_class_name(5); }, {"head_class", "5"}},
  };
  for (const auto& call : calls) expect_error(call);
}

}  // namespace
}  // namespace hopfield::theory
