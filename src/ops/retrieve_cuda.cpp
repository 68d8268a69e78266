#include "ops/retrieve_cuda.h"

#include "ops/cpu_passes.h"
#include "ops/cuda_call.h"
#include "ops/launch_context.h"

#include <ATen/ATen.h>

#include <kernels/cuda/retrieve.h>

#include <algorithm>
#include <limits>
#include <tuple>

namespace hopfield::detail {
namespace {

namespace cuda = kernels::cuda;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// Elements from index to index of a dimension; 0 where there is only one.
int64_t stride_of(const at::Tensor& tensor, int64_t dimension) {
  return tensor.size(dimension) == 1 ? 0 : tensor.stride(dimension);
}

/// Of patterns [N or 1, H or 1, rows, width], or ragged [total, H or 1, width].
cuda::Strided strided(const at::Tensor& tensor) {
  const auto dimensions = tensor.dim();
  cuda::Strided result{tensor.data_ptr(), 0, 0, 0};
  if (dimensions == 3) {
    result.row = tensor.stride(0);
    result.head = stride_of(tensor, 1);
  } else {
    result.batch = stride_of(tensor, 0);
    result.head = stride_of(tensor, 1);
    result.row = tensor.stride(2);
  }
  return result;
}

/// Whether a threshold is compared with the movement of a state, or with what comes of it.
bool compares_states(const RetrieveSettings& settings) {
  const auto& eps = settings.update_steps_eps.values();
  return makes_updates(settings) && std::any_of(eps.begin(), eps.end(), [](double value) { return value > 0; });
}

bool compares_heads(const RetrieveSettings& settings) {
  return makes_updates(settings) && settings.stop_rule == StopRule::per_head;
}

/// A call in the kernels' terms, and the tensors that it points into.
class Call {
 public:
  Call(const RetrieveInput& input, const RetrieveSettings& settings, uint64_t seed)
      : floats_(input.state.options().dtype(at::kFloat).requires_grad(false)),
        iteration_(settings, input.state.size(1), input.state.size(3), floats_) {
    auto& c = call;
    const bool ragged = input.offsets.defined();
    set_patterns(input);
    c.batch = input.state.size(0);
    c.heads = input.state.size(1);
    c.queries = input.state.size(2);
    c.depth = input.state.size(3);
    c.keys = stored_.size(ragged ? 0 : 2);
    c.width = values_.defined() ? values_.size(-1) : c.depth;
    if (ragged) offsets_ = input.offsets.to(floats_.dtype(at::kLong)).contiguous();
    c.offsets = ragged ? offsets_.data_ptr<int64_t>() : nullptr;
    set_masks(input);
    c.most_steps = iteration_.most_steps;
    c.steps_max = iteration_.steps_max.data_ptr<int64_t>();
    c.eps = float_pointer(iteration_.eps);
    c.beta = float_pointer(iteration_.beta);
    c.dropout = static_cast<float>(settings.dropout);
    c.seed = seed;
    c.type = element_type(input.state);
    c.plain_float32 = wants_plain_float32();
    c.exact_states = compares_states(settings);
    c.compares_heads = compares_heads(settings);
  }
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

  std::vector<int64_t> rows(std::initializer_list<int64_t> more = {}) const {
    std::vector<int64_t> shape{call.batch, call.heads, call.queries};
    shape.insert(shape.end(), more);
    return shape;
  }
  std::vector<int64_t> steps_and_rows(int64_t steps, int64_t width) const {
    return {steps, call.batch, call.heads, call.queries, width};
  }

  cuda::RetrieveCall call;

 private:
  void set_patterns(const RetrieveInput& input) {
    auto patterns = input;
    if (input.masks.association_mask.defined()) {
      // Keys that masks of single scores hide from all queries are read all the same, and 0 * NaN is NaN.
      patterns = with_hidden_nonfinite_zeroed(input);
      if (input.projection.defined()) {
        auto values = input;
        values.stored = input.projection;
        patterns.projection = with_hidden_nonfinite_zeroed(values).stored;
      }
    }
    state_ = with_aligned_rows(input.state.detach());
    stored_ = with_aligned_rows(patterns.stored.detach());
    call.state = strided(state_);
    call.stored = strided(stored_);
    if (!patterns.projection.defined() || patterns.projection.is_same(patterns.stored)) return;
    values_ = with_aligned_rows(patterns.projection.detach());
    call.values = strided(values_);
  }

  /// Padding and key bias together are one number for each key; where patterns are shared by a batch that masks them
  /// differently, they keep the batch's rows apart.
  void set_masks(const RetrieveInput& input) {
    key_bias_ = joined_key_bias(input.masks.key_bias, input.masks.padding_mask, floats_);
    if (key_bias_.defined()) {
      key_bias_ = (call.offsets != nullptr ? key_bias_ : key_bias_.flatten(1)).contiguous();
      call.key_bias = float_pointer(key_bias_);
      call.key_bias_batch = call.offsets != nullptr || key_bias_.size(0) == 1 ? 0 : call.keys;
    }
    if (!input.masks.association_mask.defined()) return;
    using Kind = cuda::ScoreMask::Kind;
    const bool boolean = input.masks.association_mask.scalar_type() == at::kBool;
    mask_ = boolean ? input.masks.association_mask : input.masks.association_mask.detach().to(at::kFloat);
    call.mask = {boolean ? Kind::boolean : Kind::float32,
                 mask_.data_ptr(),
                 stride_of(mask_, 0),
                 stride_of(mask_, 1),
                 stride_of(mask_, 2),
                 stride_of(mask_, 3)};
  }

  const at::TensorOptions floats_;
  const IterationOnDevice iteration_;
  at::Tensor state_, stored_, values_, offsets_, key_bias_, mask_;
};

std::optional<std::string> reason_against(RetrieveInput& input, const RetrieveSettings& settings) {
  if (auto reason = reason_against_type(input.state); !reason.empty()) return reason;
  const LaunchContext context(input.state);
  cuda::RetrieveCall shape;
  shape.type = element_type(input.state);
  shape.exact_states = compares_states(settings);
  shape.compares_heads = compares_heads(settings);
  shape.most_steps = makes_updates(settings) ? 1 : 0;
  shape.depth = input.state.size(-1);
  shape.width = input.projection.defined() ? input.projection.size(-1) : shape.depth;
  if (auto reason = cuda::retrieve_reason_against(shape); !reason.empty()) return reason;
  if (!any_needs_gradient({input.state, input.stored, input.projection, settings.beta})) return std::nullopt;
  if (input.projection.defined()) shape.values.data = input.projection.data_ptr();
  if (auto reason = cuda::retrieve_backward_reason_against(shape); !reason.empty()) return reason;
  if (settings.gradient.kind() == Gradient::Kind::implicit && makes_updates(settings)) {
    shape.type = cuda::ElementType::float32;  // the solver's
    shape.values.data = nullptr;
    if (auto reason = cuda::retrieve_backward_reason_against(shape); !reason.empty()) return reason;
  }
  return std::nullopt;
}

cuda::RetrieveSaved pointers(const Saved& saved) {
  return {saved.states.data_ptr(), saved.rest.defined() ? saved.rest.data_ptr() : nullptr, float_pointer(saved.sums)};
}

/// Patterns that are expanded, where each copy has a gradient of its own, as real copies.
RetrieveInput with_own_patterns(RetrieveInput input) {
  for (auto* patterns : {&input.stored, &input.projection}) {
    if (!patterns->defined()) continue;
    for (int64_t i = 0; i + 2 < patterns->dim(); ++i) {
      if (patterns->size(i) > 1 && patterns->stride(i) == 0) *patterns = patterns->contiguous();
    }
  }
  return input;
}

RetrieveResult forward(const RetrieveInput& input, const RetrieveSettings& settings, uint64_t seed, Saved* saved) {
  const LaunchContext context(input.state);
  const Call call(input, settings, seed);
  const auto& c = call.call;
  const auto rows = call.rows();
  const auto with_last = [&](int64_t width) { return call.rows({width}); };
  const auto floats = input.state.options().dtype(at::kFloat).requires_grad(false);
  RetrieveResult r;
  r.output = at::empty(with_last(c.width), input.state.options().requires_grad(false));
  r.state = at::empty(with_last(c.depth), r.output.options());
  r.logsumexp = at::empty(rows, floats);
  r.residual = at::empty(rows, floats);
  r.steps = at::empty(rows, floats.dtype(at::kLong));
  const auto converged = at::empty(rows, floats.dtype(at::kByte));
  const auto states = at::empty({c.compares_heads ? 2 : 1, c.batch, c.heads, c.queries, c.depth}, floats);
  const auto workspace = at::empty({static_cast<int64_t>(cuda::retrieve_workspace_size(c))}, floats.dtype(at::kByte));
  cuda::RetrieveOutputs out{};
  out.output = r.output.data_ptr();
  out.state = r.state.data_ptr();
  out.logsumexp = float_pointer(r.logsumexp);
  out.residual = float_pointer(r.residual);
  out.steps = r.steps.data_ptr<int64_t>();
  out.converged = converged.data_ptr<uint8_t>();
  out.states = float_pointer(states);
  out.workspace = workspace.data_ptr();
  if (settings.with_scores) {
    const bool ragged = c.offsets != nullptr;
    r.scores = at::empty(ragged ? std::vector<int64_t>{c.keys, c.heads, c.queries} : with_last(c.keys), floats);
    out.scores = float_pointer(r.scores);
    std::tie(out.score_batch, out.score_head, out.score_query, out.score_key) =
        ragged ? std::tuple<int64_t, int64_t, int64_t, int64_t>{0, c.queries, 1, c.heads * c.queries}
               : std::tuple<int64_t, int64_t, int64_t, int64_t>{c.heads * c.queries * c.keys, c.queries * c.keys,
                                                                c.keys, 1};
  }
  if (saved != nullptr) {
    const auto states_shape = call.steps_and_rows(c.most_steps, cuda::retrieve_saved_row(c));
    saved->states = at::empty(states_shape, r.output.options());
    if (c.exact_states && c.type != cuda::ElementType::float32)
      saved->rest = at::empty(states_shape, r.output.options());
    saved->sums = at::empty(call.steps_and_rows(c.most_steps + 1, 2), floats);
    out.saved = pointers(*saved);
  }
  const auto error = cuda::retrieve_forward(c, out, context.stream());
  TORCH_CHECK(error.empty(), "hopfield::retrieve: ", error);
  r.converged = converged.to(at::kBool);
  return r;
}

/// A gradient of patterns, first in the form in which the kernels write it.
class PatternGradient {
 public:
  /// @param patterns  undefined: no gradient
  PatternGradient(const at::Tensor& patterns, const cuda::RetrieveCall& call) : patterns_(patterns) {
    if (!patterns.defined()) return;
    const auto form = cuda::pattern_gradient_form(call);
    const bool ragged = call.offsets != nullptr;
    const int64_t heads = form.all_heads ? 1 : call.heads, width = patterns.size(-1);
    const auto shape = ragged
                           ? std::vector<int64_t>{form.parts, call.keys, heads, width}
                           : std::vector<int64_t>{form.parts, form.all_batch ? 1 : call.batch, heads, call.keys, width};
    const auto options = patterns.options().requires_grad(false);
    written_ = at::empty(shape, form.parts > 1 ? options.dtype(at::kFloat) : options);
    // Rows of no bag, and patterns that nobody asked, are left alone.
    if (ragged || call.batch * call.heads * call.queries == 0) written_.zero_();
  }

  cuda::PatternGradient target() const {
    if (!written_.defined()) return {};
    if (written_.dim() == 4) return {written_.data_ptr(), 0, written_.stride(2), written_.stride(1)};
    return {written_.data_ptr(), written_.stride(1), written_.stride(2), written_.stride(3)};
  }
  int64_t part_size() const { return written_.defined() ? written_.stride(0) : 0; }

  /// The gradient, in the shape of the patterns.
  at::Tensor sum() const {
    if (!written_.defined()) return {};
    const auto all = written_.size(0) > 1 ? written_.sum(0) : written_.select(0, 0);
    return all.sum_to_size(patterns_.sizes()).to(patterns_.scalar_type());
  }

 private:
  at::Tensor patterns_, written_;
};

RetrieveGradients backward(const RetrieveInput& input, const RetrieveSettings& settings, uint64_t seed,
                           const Saved& saved, const RetrieveResult& incoming, std::array<bool, 2> wants) {
  const LaunchContext context(input.state);
  const Call call(with_own_patterns(input), settings, seed);
  const auto& c = call.call;
  const auto options = input.state.options().requires_grad(false), floats = options.dtype(at::kFloat);
  const auto rows_of = [&](const at::Tensor& gradient, int64_t width) {
    return gradient.defined() ? with_aligned_rows(gradient.detach().to(options))
                              : at::zeros({1, 1, 1, width}, options).expand(call.rows({width}));
  };
  const auto output = rows_of(incoming.output, c.width), state = rows_of(incoming.state, c.depth);
  const auto logsumexp =
      incoming.logsumexp.defined() ? incoming.logsumexp.detach().to(floats).contiguous() : at::Tensor();
  const auto passed = at::empty_like(saved.states), marks = at::empty(call.steps_and_rows(c.most_steps + 1, 4), floats);
  RetrieveGradients result;
  result.state = at::empty(call.rows({c.depth}), options);
  result.beta = at::empty(call.rows(), floats);
  const PatternGradient stored(wants[0] ? input.stored : at::Tensor(), c),
      values(wants[1] ? input.projection : at::Tensor(), c);
  cuda::RetrieveGradients g;
  g.output = strided(output);
  if (incoming.state.defined()) g.state = strided(state);
  g.logsumexp = float_pointer(logsumexp);
  g.saved = pointers(saved);
  g.steps = saved.steps.data_ptr<int64_t>();
  if (settings.gradient.kind() == Gradient::Kind::last) g.last_steps = settings.gradient.steps();
  g.passed = passed.data_ptr();
  g.marks = float_pointer(marks);
  g.query = result.state.data_ptr();
  g.beta = float_pointer(result.beta);
  g.stored = stored.target();
  g.stored_size = stored.part_size();
  g.values = values.target();
  g.values_size = values.part_size();
  const auto error = cuda::retrieve_backward(c, g, context.stream());
  TORCH_CHECK(error.empty(), "hopfield::retrieve: ", error);
  result.stored = stored.sum();
  result.projection = values.sum();
  return result;
}

}  // namespace

const RetrievePasses kRetrieveCudaPasses{reason_against, forward, backward};

}  // namespace hopfield::detail
