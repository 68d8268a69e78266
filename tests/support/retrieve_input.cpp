#include "support/retrieve_input.h"

#include "support/naive.h"
#include <hopfield/core/bags.h>

#include <limits>

namespace hopfield::testing {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

const char* name_of(Layout layout) {
  switch (layout) {
    case Layout::dense:
      return "dense";
    case Layout::batch_shared:
      return "batch_shared";
    case Layout::heads_shared:
      return "heads_shared";
    case Layout::all_shared:
      return "all_shared";
    case Layout::ragged:
      return "ragged";
  }
  return "";
}

const char* name_of(MaskKind kind) {
  switch (kind) {
    case MaskKind::none:
      return "none";
    case MaskKind::boolean:
      return "boolean";
    case MaskKind::floating:
      return "floating";
    case MaskKind::padding:
      return "padding";
    case MaskKind::key_bias:
      return "key_bias";
    case MaskKind::everything:
      return "everything";
    case MaskKind::causal:
      return "causal";
  }
  return "";
}

/// Excludes the keys behind each query from a bias [.., L, S].
at::Tensor causal(const at::Tensor& bias) {
  return bias.masked_fill(at::ones({bias.size(-2), bias.size(-1)}, at::kBool).triu(1), -kInfinity);
}

void make_ragged(RetrieveCase& c, MaskKind mask, bool own_projection, uint64_t seed, const RetrieveShape& s) {
  c.bag_sizes.assign(s.batch, 0);
  for (int64_t n = 0; n + 1 < s.batch; ++n) c.bag_sizes[n] = std::max<int64_t>(s.keys - 2 * n, 1);  // the last is empty
  std::vector<int64_t> offsets{0};
  for (const auto size : c.bag_sizes) offsets.push_back(offsets.back() + size);
  const auto total = offsets.back();
  c.input.offsets = at::tensor(offsets, at::kLong);
  c.input.stored = randn({total, s.heads, s.depth}, seed + 1);
  if (own_projection) c.input.projection = randn({total, s.heads, s.width}, seed + 2);
  const auto padded = [&](const at::Tensor& values) { return BagBatch{values, c.input.offsets, {}}.padded(); };
  c.stored = padded(c.input.stored).values.transpose(1, 2).contiguous();
  c.projection = own_projection ? padded(c.input.projection).values.transpose(1, 2).contiguous() : c.stored;
  const auto padding = padded(c.input.stored).padding_mask.unsqueeze(1).unsqueeze(1);  // [N, 1, 1, S]
  c.bias = at::zeros({s.batch, s.heads, s.queries, c.stored.size(2)}, at::kDouble);
  if (mask == MaskKind::key_bias || mask == MaskKind::everything || mask == MaskKind::causal) {
    c.input.masks.key_bias = randn({total}, seed + 3);
    c.input.masks.key_bias.slice(0, 0, 1).fill_(-kInfinity);
    c.bias = c.bias + padded(c.input.masks.key_bias).values.unsqueeze(1).unsqueeze(1);
  }
  c.bias = c.bias.masked_fill(padding, -kInfinity);
  c.input.masks.is_causal = mask == MaskKind::causal;
  if (c.input.masks.is_causal) c.bias = causal(c.bias);
}

void add_masks(RetrieveCase& c, MaskKind mask, uint64_t seed, const RetrieveShape& s) {
  c.bias = at::zeros({s.batch, s.heads, s.queries, s.keys}, at::kDouble);
  const bool all = mask == MaskKind::everything;
  if (mask == MaskKind::boolean) {
    c.input.masks.association_mask = randn({s.batch, s.heads, s.queries, s.keys}, seed + 4) > 0.5;
    c.input.masks.association_mask[0].select(1, 0).fill_(true);
    c.input.masks.association_mask[s.batch - 1].fill_(true);
    c.bias = c.bias.masked_fill(c.input.masks.association_mask, -kInfinity);
  }
  if (mask == MaskKind::floating || all) {
    c.input.masks.association_mask = randn({s.batch, 1, s.queries, s.keys}, seed + 5);
    c.input.masks.association_mask[0].select(1, 0).fill_(-kInfinity);
    c.input.masks.association_mask[s.batch - 1].fill_(-kInfinity);
    c.bias = c.bias + c.input.masks.association_mask;
  }
  if (mask == MaskKind::padding || all) {
    c.input.masks.padding_mask = randn({s.batch, s.keys}, seed + 6) > 0.3;
    c.input.masks.padding_mask[0][0] = false;
    c.input.masks.padding_mask[s.batch - 1].fill_(true);
    c.bias = c.bias.masked_fill(c.input.masks.padding_mask.unsqueeze(1).unsqueeze(1), -kInfinity);
  }
  c.input.masks.is_causal = mask == MaskKind::causal;
  if (mask == MaskKind::key_bias || all || c.input.masks.is_causal) {
    c.input.masks.key_bias = randn({s.batch, s.keys}, seed + 7);
    c.input.masks.key_bias[0][c.input.masks.is_causal ? 0 : s.keys - 1] = -kInfinity;
    c.input.masks.key_bias[s.batch - 1].fill_(-kInfinity);
    c.bias = c.bias + c.input.masks.key_bias.unsqueeze(1).unsqueeze(1);
  }
  if (c.input.masks.is_causal) c.bias = causal(c.bias);
}

}  // namespace

RetrieveCase make_case(Layout layout, MaskKind mask, bool own_projection, uint64_t seed, RetrieveShape s) {
  RetrieveCase c;
  c.name = std::string(name_of(layout)) + " " + name_of(mask) + (own_projection ? " own values" : "");
  c.state = c.input.state = randn({s.batch, s.heads, s.queries, s.depth}, seed);
  if (layout == Layout::ragged) {
    make_ragged(c, mask, own_projection, seed, s);
    return c;
  }
  const auto batch = layout == Layout::batch_shared || layout == Layout::all_shared ? 1 : s.batch;
  const auto heads = layout == Layout::heads_shared || layout == Layout::all_shared ? 1 : s.heads;
  const auto full = [&](const at::Tensor& x) { return x.expand({s.batch, s.heads, -1, -1}).contiguous(); };
  c.input.stored = randn({batch, heads, s.keys, s.depth}, seed + 1);
  c.stored = full(c.input.stored);
  if (own_projection) c.input.projection = randn({batch, heads, s.keys, s.width}, seed + 2);
  c.projection = own_projection ? full(c.input.projection) : c.stored;
  add_masks(c, mask, seed, s);
  return c;
}

}  // namespace hopfield::testing
