#include "ops/kernel_call.h"

#include "ops/retrieve_internal.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>
#include <utility>

namespace hopfield::detail {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// Elements from index to index of a dimension; 0 where there is only one.
int64_t stride_of(const at::Tensor& tensor, int64_t dimension) {
  return tensor.size(dimension) == 1 ? 0 : tensor.stride(dimension);
}

/// A number for each head, in memory of the CPU or of a GPU. On a GPU the numbers are written by kernels, which nobody
/// has to wait for.
template <typename T>
at::Tensor per_head(const std::vector<T>& values, int64_t heads, const at::TensorOptions& options) {
  if (options.device().is_cpu()) {
    auto numbers = at::empty({heads}, options);
    using Number = std::conditional_t<std::is_same_v<T, double>, float, T>;
    for (int64_t h = 0; h < heads; ++h) {
      numbers.data_ptr<Number>()[h] = static_cast<Number>(values[values.size() == 1 ? 0 : static_cast<size_t>(h)]);
    }
    return numbers;
  }
  if (values.size() == 1) return at::full({heads}, values[0], options);
  std::vector<at::Tensor> parts;
  for (const auto value : values) parts.push_back(at::full({1}, value, options));
  return parts.empty() ? at::empty({0}, options) : at::cat(parts);
}

}  // namespace

kernels::ElementType element_type(const at::Tensor& tensor) {
  using Type = kernels::ElementType;
  if (tensor.scalar_type() == at::kBFloat16) return Type::bfloat16;
  return tensor.scalar_type() == at::kHalf ? Type::float16 : Type::float32;
}

kernels::Strided strided(const at::Tensor& tensor) {
  if (tensor.dim() == 3) return {tensor.data_ptr(), 0, stride_of(tensor, 1), tensor.stride(0)};
  return {tensor.data_ptr(), stride_of(tensor, 0), stride_of(tensor, 1), tensor.stride(2)};
}

float* float_pointer(const at::Tensor& tensor) { return tensor.defined() ? tensor.data_ptr<float>() : nullptr; }

at::Tensor joined_key_bias(const Masks& masks, const at::TensorOptions& floats) {
  at::Tensor joined = masks.key_bias.defined() ? masks.key_bias.detach().to(floats) : at::Tensor();
  if (!masks.padding_mask.defined()) return joined;
  if (!joined.defined()) joined = at::zeros({1}, floats);
  return joined.masked_fill(masks.padding_mask, -kInfinity);
}

OpCall with_own_patterns(OpCall call) {
  for (auto* patterns : {&call.input.stored, &call.input.projection}) {
    if (!patterns->defined()) continue;
    for (int64_t i = 0; i + 2 < patterns->dim(); ++i) {
      if (patterns->size(i) > 1 && patterns->stride(i) == 0) *patterns = patterns->contiguous();
    }
  }
  return call;
}

KernelCall::KernelCall(const OpCall& given, const Masks& masks, UsableRows usable_rows)
    : floats_(given.input.state.options().dtype(at::kFloat).requires_grad(false)) {
  const auto& in = given.input;
  const bool ragged = in.offsets.defined(), ragged_queries = in.state_offsets.defined();
  const auto all_offsets = [&](const at::Tensor& offsets) {
    return keep(offsets.to(floats_.dtype(at::kLong)).contiguous()).data_ptr<int64_t>();
  };
  auto& c = call;
  c.batch = ragged_queries ? in.state_offsets.numel() - 1 : in.state.size(0);
  c.heads = in.state.size(1);
  c.queries = in.state.size(ragged_queries ? 0 : 2);
  c.keys = in.stored.size(ragged ? 0 : 2);
  c.depth = in.state.size(-1);
  c.width = (in.projection.defined() ? in.projection : in.stored).size(-1);
  c.type = element_type(in.stored);
  c.state = strided(keep(usable_rows(in.state.detach())));
  c.stored = strided(keep(usable_rows(in.stored.detach())));
  if (in.projection.defined()) c.values = strided(keep(usable_rows(in.projection.detach())));
  if (ragged) c.offsets = all_offsets(in.offsets);
  if (ragged_queries) c.state_offsets = all_offsets(in.state_offsets);
  set_masks(masks);
  set_iteration(given);
}

const at::Tensor& KernelCall::keep(at::Tensor tensor) { return kept_.emplace_back(std::move(tensor)); }

void KernelCall::set_iteration(const OpCall& given) {
  const auto& settings = given.settings;
  auto& c = call;
  auto steps = settings.update_steps_max.values();
  for (auto& count : steps) count = count < 0 ? settings.update_steps_cap : count;
  c.most_steps = steps.empty() || c.heads == 0 ? 0 : *std::max_element(steps.begin(), steps.end());
  c.steps_max = keep(per_head(steps, c.heads, floats_.dtype(at::kLong))).data_ptr<int64_t>();
  c.eps = float_pointer(keep(per_head(settings.update_steps_eps.values(), c.heads, floats_)));
  c.beta = float_pointer(keep(beta_of_heads(settings.beta)));
  c.per_head = stops_per_head(settings);
  const auto& separation = settings.separation;
  if (separation.is_sparse()) c.separation = kernels::Separation::entmax;
  if (separation.kind() == Separation::Kind::softmax1) c.separation = kernels::Separation::softmax1;
  c.alpha = separation.alpha();
  c.dropout = settings.dropout;
  c.seed = given.seed;
}

at::Tensor KernelCall::beta_of_heads(const at::Tensor& beta) const {
  if (!beta.defined()) {
    return per_head(std::vector<double>{default_beta(call.depth)}, call.heads, floats_);
  }
  if (!beta.is_cpu() || beta.scalar_type() != at::kDouble || !beta.is_contiguous()) {
    return beta.detach().to(floats_).expand({call.heads}).contiguous();
  }
  const auto* numbers = beta.const_data_ptr<double>();
  return per_head(std::vector<double>(numbers, numbers + beta.numel()), call.heads, floats_);
}

void KernelCall::set_masks(const Masks& masks) {
  auto& c = call;
  c.is_causal = masks.is_causal;
  if (auto bias = joined_key_bias(masks, floats_); bias.defined()) {
    bias = keep((c.is_ragged() ? bias : bias.flatten(1)).contiguous());
    c.key_bias = float_pointer(bias);
    c.key_bias_batch = c.is_ragged() || bias.size(0) == 1 ? 0 : c.keys;
  }
  const auto& given_mask = masks.association_mask;
  if (!given_mask.defined()) return;
  const bool boolean = given_mask.scalar_type() == at::kBool;
  const auto& mask = keep(boolean ? given_mask : given_mask.detach().to(at::kFloat));
  using Kind = kernels::ScoreMask::Kind;
  c.mask = {boolean ? Kind::boolean : Kind::float32,
            mask.data_ptr(),
            stride_of(mask, 0),
            stride_of(mask, 1),
            stride_of(mask, 2),
            stride_of(mask, 3)};
}

void KernelCall::set_map(const OpCall& given, at::Tensor weight, at::Tensor transposed, at::Tensor bias) {
  // A pool is known by its weight, which has an address even where it holds no number.
  static constexpr float kNothing = 0.0f;
  call.map.weight = weight.numel() > 0 ? float_pointer(keep(std::move(weight))) : &kNothing;
  call.map.transposed = float_pointer(keep(std::move(transposed)));
  call.map.bias = float_pointer(keep(std::move(bias)));
  call.map.normalize = given.normalize_eps.has_value();
  call.map.normalize_eps = static_cast<float>(given.normalize_eps.value_or(0.0));
}

std::vector<int64_t> KernelCall::rows(std::initializer_list<int64_t> more) const {
  std::vector<int64_t> shape = call.has_ragged_queries() ? std::vector<int64_t>{call.queries, call.heads}
                                                         : std::vector<int64_t>{call.batch, call.heads, call.queries};
  shape.insert(shape.end(), more);
  return shape;
}

std::vector<int64_t> KernelCall::rows_of_steps(int64_t steps, int64_t width) const {
  auto shape = rows({width});
  shape.insert(shape.begin(), steps);
  return shape;
}

kernels::Outputs KernelCall::make_outputs(PoolResult& r, const at::TensorOptions& patterns, bool merged,
                                          bool with_scores) const {
  const auto& c = call;
  // Strides in place of a view: the views of a node's results may not be changed in place.
  const auto make_rows = [&](int64_t width) {
    const auto all_heads = c.heads * width;
    return merged && !c.has_ragged_queries()
               ? at::empty_strided(rows({width}), {c.queries * all_heads, width, all_heads, 1}, patterns)
               : at::empty(rows({width}), patterns);
  };
  r.output = make_rows(c.width);
  r.state = make_rows(c.depth);
  r.logsumexp = at::empty(rows(), floats_);
  r.residual = at::empty(rows(), floats_);
  r.steps = at::empty(rows(), floats_.dtype(at::kLong));
  r.converged = at::empty(rows(), floats_.dtype(at::kBool));
  if (c.is_pool()) r.mass = at::empty(rows(), floats_);
  kernels::Outputs out;
  out.output = strided(r.output);
  out.state = strided(r.state);
  out.logsumexp = float_pointer(r.logsumexp);
  out.residual = float_pointer(r.residual);
  out.steps = r.steps.data_ptr<int64_t>();
  out.converged = r.converged.data_ptr<bool>();
  out.mass = float_pointer(r.mass);
  if (with_scores) {
    const bool ragged = c.is_ragged();
    r.scores = ragged ? at::empty({c.keys, c.heads, c.queries}, floats_) : at::empty(rows({c.keys}), floats_);
    out.scores = float_pointer(r.scores);
    out.score_batch = ragged ? 0 : r.scores.stride(0);
    out.score_head = r.scores.stride(1);
    out.score_query = r.scores.stride(2);
    out.score_key = r.scores.stride(ragged ? 0 : 3);
  }
  return out;
}

kernels::Saved KernelCall::pointers(const Saved& saved) {
  kernels::Saved p;
  if (saved.states.defined()) p.states = saved.states.data_ptr();
  if (saved.rounding_error.defined()) p.rounding_error = saved.rounding_error.data_ptr();
  p.sums = float_pointer(saved.sums);
  p.output = float_pointer(saved.output);
  p.means = float_pointer(saved.means);
  p.mass = float_pointer(saved.mass);
  return p;
}

kernels::Gradients KernelCall::make_gradients(const OpCall& given, const Saved& saved, const PoolResult& incoming,
                                              const at::TensorOptions& patterns, UsableRows usable_rows,
                                              KernelGradients& result) {
  const auto& c = call;
  const auto numbers = [&](const at::Tensor& gradient) {
    return gradient.defined() ? float_pointer(keep(gradient.detach().to(floats_).contiguous())) : nullptr;
  };
  const auto with_rows = [&](const at::Tensor& gradient) {
    return strided(keep(usable_rows(gradient.detach().to(patterns))));
  };
  if (!result.state.defined()) result.state = at::empty(rows({c.depth}), patterns);
  result.beta = at::empty(rows(), floats_);
  kernels::Gradients g;
  g.output =
      with_rows(incoming.output.defined() ? incoming.output : at::zeros({c.width}, patterns).expand(rows({c.width})));
  if (incoming.state.defined()) g.state = with_rows(incoming.state);
  g.logsumexp = numbers(incoming.logsumexp);
  g.mass = numbers(incoming.mass);
  g.saved = pointers(saved);
  g.steps = saved.steps.data_ptr<int64_t>();
  if (given.settings.gradient.kind() == Gradient::Kind::last) g.last_steps = given.settings.gradient.steps();
  g.query = strided(result.state);
  g.beta = float_pointer(result.beta);
  if (c.is_pool()) {
    result.products = at::empty(rows_of_steps(c.most_steps + 1, c.width), floats_);
    result.states = at::empty(rows_of_steps(c.most_steps, c.depth), floats_);
    g.products = float_pointer(result.products);
    g.states = float_pointer(result.states);
  }
  return g;
}

}  // namespace hopfield::detail
