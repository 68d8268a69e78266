#include "ops/retrieve_attention.h"

#include "ops/fused_reasons.h"

#include <ATen/ATen.h>
#include <ATen/Context.h>
#include <ATen/SDPBackend.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <tuple>

namespace hopfield::detail {
namespace {

using at::SDPBackend;
using at::Tensor;
using Reason = std::optional<std::string>;

struct Call {
  const RetrieveInput& input;
  const RetrieveSettings& settings;

  const Tensor& values() const { return input.projection.defined() ? input.projection : input.stored; }
  double beta() const {
    if (settings.beta.defined()) return settings.beta.item<double>();
    return default_beta(input.state.size(-1));
  }
};

Reason updates(const Call& call) {
  if (!makes_updates(call.settings)) return std::nullopt;
  return "attention makes no updates";
}

// LibTorch's kernels are wrong for some masks (memory-efficient beyond 65536 keys, cuDNN's query gradient).
Reason masked_or_ragged(const Call& call) {
  const auto& in = call.input;
  const bool plain = !in.offsets.defined() && !in.masks.association_mask.defined() &&
                     !in.masks.padding_mask.defined() && !in.masks.key_bias.defined();
  if (!plain) return "LibTorch's attention is not trusted with masks, biases and ragged patterns";
  if (in.masks.is_causal && in.state.size(2) != in.stored.size(2)) return "a causal mask is not square";
  const bool shares = in.state.size(0) != in.stored.size(0) || in.state.size(1) != in.stored.size(1);
  if (in.masks.is_causal && shares) return "batch elements or heads share patterns that a causal mask hides";
  return std::nullopt;
}

Reason more_than_attention(const Call& call) {
  if (call.settings.dropout > 0) return "the dropout mask is the library's own";
  if (call.settings.with_scores || call.settings.with_energy) return "scores or energies are asked for";
  return std::nullopt;
}

// For LibTorch, logsumexp is not a differentiable output: a gradient that arrives there would be lost silently.
Reason gradient(const Call& call) {
  if (!at::GradMode::is_enabled()) return std::nullopt;
  for (const auto* tensor : {&call.input.state, &call.input.stored, &call.input.projection, &call.settings.beta}) {
    if (tensor->defined() && tensor->requires_grad()) return "LibTorch's attention gives logsumexp no gradient";
  }
  return std::nullopt;
}

// The kernels find the largest product first and multiply by the scale afterwards, so it has to be positive.
Reason beta_unknown_or_not_positive(const Call& call) {
  const auto& beta = call.settings.beta;
  if (beta.defined() && (!beta.is_cpu() || beta.dim() != 0)) return "beta is not one number that the host knows";
  const auto value = call.beta();
  if (value > 0 && std::isfinite(value)) return std::nullopt;
  return c10::str("beta is ", value, ", which is not positive");
}

Reason type_or_width(const Call& call) {
  const auto type = call.input.state.scalar_type();
  if (type != at::kBFloat16 && type != at::kHalf) {
    return c10::str("LibTorch's attention with a logsumexp takes bfloat16 and float16, not ", type);
  }
  constexpr int64_t kMostWidth = 256, kPiece = 8;
  const auto depth = call.input.state.size(-1), width = call.values().size(-1);
  if (depth == width && depth <= kMostWidth && depth % kPiece == 0) return std::nullopt;
  return c10::str("LibTorch's attention takes patterns and values of one width, a multiple of ", kPiece, " up to ",
                  kMostWidth, ", not ", depth, " and ", width);
}

// Batch elements and heads are dimensions of the kernels' grid; some of their indices are of 32 bits.
Reason sizes(const Call& call) {
  constexpr int64_t kMostSets = 65535, kMostElements = std::numeric_limits<int32_t>::max();
  for (const auto* tensor : {&call.input.state, &call.input.stored, &call.values()}) {
    if (tensor->numel() == 0) return "there is nothing to attend to, or nobody who does";
    if (tensor->numel() > kMostElements) return "LibTorch's attention is not trusted with more than 2^31 elements";
  }
  if (std::max(call.input.stored.size(0), call.input.stored.size(1)) <= kMostSets) return std::nullopt;
  return c10::str("LibTorch's attention takes up to ", kMostSets, " batch elements and heads");
}

Reason deterministic(const Call&) {
  if (!at::globalContext().deterministicAlgorithms()) return std::nullopt;
  return "deterministic algorithms are asked for";
}

/// LibTorch's kernels copy 16 bytes at a time without a check that rows are aligned.
bool rows_are_aligned(const Tensor& patterns) {
  constexpr int64_t kBytes = 16;
  const auto piece = kBytes / static_cast<int64_t>(patterns.element_size());
  if (reinterpret_cast<uintptr_t>(patterns.const_data_ptr()) % kBytes != 0 || patterns.stride(-1) != 1) return false;
  for (int64_t i = 0; i + 1 < patterns.dim(); ++i) {
    if (patterns.size(i) > 1 && patterns.stride(i) % piece != 0) return false;
  }
  return true;
}

/// The backend that LibTorch itself would choose: it knows its kernels, the GPU, and what the user has switched off.
SDPBackend choice(const Call& call) {
  const auto shared = [&](const Tensor& patterns) {
    return patterns.expand({call.input.state.size(0), call.input.state.size(1), -1, -1});
  };
  return static_cast<SDPBackend>(at::_fused_sdp_choice(call.input.state, shared(call.input.stored),
                                                       shared(call.values()), std::nullopt, 0.0,
                                                       call.input.masks.is_causal, call.beta()));
}

}  // namespace

Reason options_against_attention(const RetrieveInput& input, const RetrieveSettings& settings) {
  OpCall complete;
  complete.input = input;
  complete.settings = settings;
  if (auto reason = reason_against_options(complete)) return reason;
  const Call call{input, settings};
  for (const auto predicate : {updates, masked_or_ragged, more_than_attention, gradient, beta_unknown_or_not_positive,
                               type_or_width, sizes, deterministic}) {
    if (auto reason = predicate(call)) return reason;
  }
  return std::nullopt;
}

Reason reason_against_attention(const RetrieveInput& input, const RetrieveSettings& settings) {
  if (!input.state.is_cuda()) return "LibTorch's attention is asked on a GPU alone";
  if (auto reason = options_against_attention(input, settings)) return reason;
  const Call call{input, settings};
  for (const auto* tensor : {&input.state, &input.stored, &call.values()}) {
    if (!rows_are_aligned(*tensor)) return "rows do not begin at multiples of 16 bytes";
  }
  const auto backend = choice(call);
  if (backend == SDPBackend::cudnn_attention || backend == SDPBackend::flash_attention) return std::nullopt;
  return "LibTorch would take neither cuDNN's nor the flash kernels";
}

RetrieveResult retrieve_attention(const RetrieveInput& input, const RetrieveSettings& settings) {
  const Call call{input, settings};
  const auto batch = input.state.size(0), heads = input.state.size(1), queries = input.state.size(2);
  const auto sets = input.stored.size(0), heads_of_sets = input.stored.size(1);
  // Queries that share patterns become the rows of one batch element. Where the batch shares patterns but the heads do
  // not, the queries of each head have to be brought together first.
  const bool gather = sets == 1 && batch > 1 && heads_of_sets > 1;
  const auto by_head = gather ? input.state.transpose(0, 1) : input.state;
  const auto query = by_head.reshape({sets, heads_of_sets, -1, input.state.size(3)});
  const auto as_before = [&](const Tensor& rows, at::IntArrayRef last) {
    auto shape = gather ? std::vector<int64_t>{heads, batch, queries} : std::vector<int64_t>{batch, heads, queries};
    shape.insert(shape.end(), last.begin(), last.end());
    return gather ? rows.reshape(shape).transpose(0, 1) : rows.reshape(shape);
  };
  const bool causal = input.masks.is_causal;
  Tensor output, logsumexp;
  if (choice(call) == SDPBackend::cudnn_attention) {
    const auto all =
        at::_scaled_dot_product_cudnn_attention(query, input.stored, call.values(), std::nullopt,
                                                /*compute_log_sumexp=*/true, 0.0, causal, false, call.beta());
    std::tie(output, logsumexp) = std::tie(std::get<0>(all), std::get<1>(all));
  } else {
    const auto all =
        at::_scaled_dot_product_flash_attention(query, input.stored, call.values(), 0.0, causal, false, call.beta());
    std::tie(output, logsumexp) = std::tie(std::get<0>(all), std::get<1>(all));
  }
  const auto floats = logsumexp.options();
  const auto nan = std::numeric_limits<double>::quiet_NaN();
  RetrieveResult result;
  result.output = as_before(output, {output.size(-1)});
  result.state = input.state.clone();  // a result of its own, like every other's
  result.logsumexp = as_before(logsumexp, {}).contiguous();
  result.steps = at::zeros({batch, heads, queries}, floats.dtype(at::kLong));
  result.residual = at::full({batch, heads, queries}, nan, floats);
  result.converged = at::zeros({batch, heads, queries}, floats.dtype(at::kBool));
  return result;
}

}  // namespace hopfield::detail
