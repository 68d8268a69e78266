#pragma once

// The calls that all tests of retrieval run: forward, with the stop rule per_head, and backward. Each test adds the
// settings of its own.

#include "retrieve_case.h"

#include <functional>

namespace hopfield::kernels::cuda {

struct RetrieveCase {
  std::string name;
  std::function<void(Retrieval&)> describe;
};

inline const std::vector<RetrieveCase>& retrieve_cases() {
  using Kind = ScoreMask::Kind;
  const auto shared = [](bool batch, bool heads) {
    return [=](Retrieval& r) {
      r.batch = 3, r.queries = 13, r.width = 12;
      r.shared_batch = batch, r.shared_heads = heads;
    };
  };
  const auto masked = [](Kind kind, bool mask_of_head, bool shared_batch, int64_t width) {
    return [=](Retrieval& r) {
      r.mask = kind, r.mask_of_head = mask_of_head, r.shared_batch = shared_batch, r.width = width;
    };
  };
  const auto ragged = [](std::vector<int64_t> bags, bool shared_heads_and_key_bias) {
    return [=](Retrieval& r) {
      r.bags = bags, r.batch = static_cast<int64_t>(bags.size()), r.width = 6;
      r.shared_heads = r.key_bias = shared_heads_and_key_bias;
    };
  };
  const auto wide = [](int64_t depth, int64_t width) {
    return [=](Retrieval& r) {
      r.batch = r.heads = r.steps = 1;
      r.depth = depth, r.width = width;
      r.beta = 1 / std::sqrt(static_cast<double>(depth));
    };
  };
  static const std::vector<RetrieveCase> cases{
      {"self-association", [](Retrieval& r) { r.queries = 70; }},
      {"values", [](Retrieval& r) { r.queries = 70, r.width = 20; }},
      {"several tiles of patterns", [](Retrieval& r) { r.queries = 70, r.keys = 150; }},
      {"one association", [](Retrieval& r) { r.steps = 0, r.width = 5; }},
      {"patterns of their own", shared(false, false)},
      {"patterns shared by the batch", shared(true, false)},
      {"patterns shared by heads", shared(false, true)},
      {"patterns shared by all", shared(true, true)},
      {"boolean mask", masked(Kind::boolean, true, true, 0)},
      {"boolean mask, values", masked(Kind::boolean, true, true, 20)},
      {"boolean mask for the batch", masked(Kind::boolean, false, false, 0)},
      {"float mask", masked(Kind::float32, true, false, 0)},
      {"float mask, values", masked(Kind::float32, true, false, 20)},
      {"float mask, shared patterns", masked(Kind::float32, true, true, 0)},
      {"float mask for the batch", masked(Kind::float32, false, false, 0)},
      {"excluded keys", [](Retrieval& r) { r.key_bias = true, r.width = 9; }},
      {"excluded keys, shared patterns", [](Retrieval& r) { r.key_bias = r.shared_batch = true, r.width = 9; }},
      {"excluded keys, dropout", [](Retrieval& r) { r.key_bias = true, r.dropout = 0.3f; }},
      {"causal", [](Retrieval& r) { r.causal = true, r.queries = 70, r.width = 20; }},
      {"causal, several tiles of both",
       [](Retrieval& r) { r.causal = true, r.queries = 150, r.keys = 150, r.steps = 1; }},
      {"causal, more keys than queries", [](Retrieval& r) { r.causal = true, r.queries = 20, r.keys = 150; }},
      {"causal, more queries than keys", [](Retrieval& r) { r.causal = true, r.queries = 90, r.keys = 33; }},
      {"causal, shared by all",
       [](Retrieval& r) {
         r.causal = r.shared_batch = r.shared_heads = true, r.queries = 41, r.keys = 100, r.width = 6;
       }},
      {"causal, boolean mask, excluded keys",
       [](Retrieval& r) {
         r.causal = r.key_bias = true, r.queries = 40, r.keys = 90;
         r.mask = Kind::boolean;
       }},
      {"causal, ragged",
       [](Retrieval& r) {
         r.causal = true, r.bags = {3, 0, 150, 33}, r.batch = 4, r.queries = 80, r.width = 6, r.steps = 1;
       }},
      {"ragged", ragged({3, 0, 70, 33}, false)},
      {"ragged, shared heads, excluded keys", ragged({3, 0, 70, 33}, true)},
      {"ragged, several tiles", ragged({3, 0, 150, 33, 1}, false)},
      {"ragged, several tiles, shared heads, excluded keys", ragged({3, 0, 150, 33, 1}, true)},
      {"empty bags", ragged({0, 0, 0, 0}, true)},
      {"small bags", ragged({30, 1, 0, 18}, true)},
      {"dropout", [](Retrieval& r) { r.dropout = 0.4f; }},
      {"dropout, values", [](Retrieval& r) { r.dropout = 0.4f, r.width = 7; }},
      {"width 1", wide(1, 0)},
      {"width 17, values of width 129", wide(17, 129)},
      {"width 64", wide(64, 0)},
      {"width 65", wide(65, 0)},
      {"width 100", wide(100, 0)},
      {"width 128", wide(128, 0)},
      {"width 256", wide(256, 0)},
  };
  return cases;
}

/// Calls `check` for each case, with the settings that `sample` already has.
template <class Check>
void for_retrieve_cases(const Retrieval& sample, const Check& check) {
  for (const auto& one : retrieve_cases()) {
    SCOPED_TRACE(one.name);
    auto r = sample;
    one.describe(r);
    check(r);
  }
}

}  // namespace hopfield::kernels::cuda
