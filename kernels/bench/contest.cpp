#include "kernels/bench/contest.h"

#include "kernels/bench/setup.h"

#include <ATen/ATen.h>
#include <ATen/Context.h>

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace hopfield::bench {
namespace {

using at::SDPBackend;
using at::Tensor;

/// Restricts scaled_dot_product_attention to one backend during its lifetime.
class OnlyBackend {
 public:
  explicit OnlyBackend(SDPBackend backend) {
    set([&](SDPBackend one) { return one == backend; });
  }
  ~OnlyBackend() {
    set([](SDPBackend) { return true; });
  }
  OnlyBackend(const OnlyBackend&) = delete;
  OnlyBackend& operator=(const OnlyBackend&) = delete;

 private:
  template <typename Predicate>
  static void set(Predicate allowed) {
    auto& context = at::globalContext();
    context.setSDPUseFlash(allowed(SDPBackend::flash_attention));
    context.setSDPUseMemEfficient(allowed(SDPBackend::efficient_attention));
    context.setSDPUseMath(allowed(SDPBackend::math));
    context.setSDPUseCuDNN(allowed(SDPBackend::cudnn_attention));
  }
};

/// Why a backend is not timed although it would not refuse the case; empty if it is timed.
std::string known_fault(SDPBackend backend, const Setup& setup) {
  constexpr int64_t kMostMasked = 65536;
  if (backend == SDPBackend::efficient_attention && setup.padding.defined() && setup.keys > kMostMasked) {
    return "left out: its results are wrong with a mask over more than 65536 patterns";
  }
  return "";
}

/// The bytes of instances that a call of the library reads and writes. The forward pass reads a bag T + 1 times, or
/// once if the bag stays on chip. The backward pass also reads it T + 1 times, reads it once more for the gradient of
/// the instances, and writes that gradient. Everything small is left out: queries, weights, means, masks.
int64_t count_bytes(const Setup& s, int64_t most_on_chip) {
  const auto sizes = s.bags.offsets.defined() ? bag_sizes(s.bags.offsets, s.bags.values.size(0))
                                              : std::vector<int64_t>(static_cast<size_t>(s.batch), s.keys);
  const auto passes = s.steps + 1;
  int64_t rows = 0;
  for (const auto size : sizes) {
    rows += size * (size <= most_on_chip ? 1 : passes);
    if (s.which.train) rows += size * (passes + 2);
  }
  return rows * s.width * static_cast<int64_t>(c10::elementSize(s.which.dtype));
}

std::string form_of(const Setup& s) {
  if (!s.pooling) return "";
  const auto options = s.instances().options().requires_grad(false);
  PoolInput input;
  input.instances = s.instances();
  input.offsets = s.bags.offsets;
  input.state = at::zeros({1, s.heads, s.queries, s.depth}, options);
  input.weight = at::zeros({s.heads, s.depth, s.width}, options);
  input.bias = at::zeros({s.heads, s.depth}, options);
  input.normalize_eps = 1e-5;
  return describe_backend(input, RetrieveOptions().fixed_steps(s.steps));
}

/// The op is timed on the fused kernels only: if they do not serve a case, it fails.
Backend backend_of(const Case& which) { return which.is_op() ? Backend::fused : Backend::automatic; }

std::string refusal_of(const Setup& s) {
  if (!s.which.is_op()) return "";
  const c10::AutoGradMode with_gradient(s.which.train);
  const auto reason = why_not_fused(op_input(s), op_options(s));
  return reason ? "refused: " + *reason : "";
}

/// The number N in "bags of up to N instances are read once", a part of describe_backend()'s text; -1 if there is none.
int64_t most_on_chip(const std::string& form) {
  const std::string before = "bags of up to ";
  const auto at = form.find(before);
  return at == std::string::npos ? -1 : std::stoll(form.substr(at + before.size()));
}

}  // namespace

Contest::Contest(const Case& which, const std::vector<std::string>& peers, int64_t cache_bytes)
    : setup_(std::make_shared<Setup>(which, backend_of(which))), form_(form_of(*setup_)) {
  // Together the inputs are several times as large as the cache, so that none is still there when its turn comes again.
  constexpr int64_t kTimes = 4, kMost = 16;
  const auto bytes = std::max<int64_t>(setup_->input_bytes(), 1);
  setup_->add_inputs(std::clamp<int64_t>((kTimes * cache_bytes + bytes - 1) / bytes, 1, kMost) - 1);
  inputs_exceed_cache_ = input_count() * bytes > 2 * cache_bytes;

  contenders.push_back({"hopfield",
                        [setup = setup_] {
                          setup->next();
                          setup->run([&] { return library_forward(*setup); });
                        },
                        refusal_of(*setup_)});
  add_peers(peers);
}

void Contest::add_peers(const std::vector<std::string>& names) {
  constexpr std::array<SDPBackend, kPeers.size()> backends{SDPBackend::flash_attention, SDPBackend::efficient_attention,
                                                           SDPBackend::math, SDPBackend::cudnn_attention};
  for (size_t i = 0; i < kPeers.size(); ++i) {
    const std::string name = kPeers[i];
    if (std::find(names.begin(), names.end(), name) == names.end()) continue;
    const auto backend = backends[i];
    contenders.push_back({name,
                          [setup = setup_, backend] {
                            const OnlyBackend only(backend);
                            setup->next();
                            setup->run([&] { return sdpa_forward(*setup); });
                          },
                          known_fault(backend, *setup_)});
  }
}

void Contest::drop_gradients() { setup_->drop_gradients(); }

int64_t Contest::input_count() const { return setup_->input_count(); }

int64_t Contest::bytes_moved() const { return setup_->pooling ? count_bytes(*setup_, most_on_chip(form_)) : 0; }

namespace {

/// The results of a call: the output and, in training, the gradients of the input's rows and of the op's patterns.
std::vector<Tensor> results_of(Setup& s, Tensor (*forward)(Setup&)) {
  std::vector<Tensor> results{s.run([&] { return forward(s); })};
  if (!s.which.train) return results;
  const bool padded = s.bags.values.defined() && forward == sdpa_forward;
  results.push_back(padded ? s.input.grad().index({s.padding.bitwise_not()}) : s.instances().grad());
  if (s.which.is_op()) results.insert(results.end(), {s.stored.grad(), s.values.grad()});
  return results;
}

double largest_error(const std::vector<Tensor>& got, const std::vector<Tensor>& exact) {
  double largest = 0;
  for (size_t i = 0; i < exact.size(); ++i) {
    const auto error = (got[i].to(at::kDouble).reshape(exact[i].sizes()) - exact[i]).abs().max() / exact[i].abs().max();
    const auto value = error.item<double>();
    if (std::isnan(value)) return value;
    largest = std::max(largest, value);
  }
  return largest;
}

/// Copies weights and data, converted to the type of `to`.
void copy(const Setup& from, Setup& to) {
  const at::NoGradGuard no_grad;
  for (size_t i = 0; i < from.parameters.size(); ++i) to.parameters[i].copy_(from.parameters[i]);
  to.input.copy_(from.input);
  if (from.which.is_op()) {
    to.stored.copy_(from.stored);
    to.values.copy_(from.values);
  }
  if (from.bags.values.defined()) to.bags.values.copy_(from.bags.values);
  if (from.gradient.defined()) to.gradient = from.gradient.to(to.which.dtype);
}

/// Makes the associations less uniform. With fresh weights or queries all patterns get nearly the same weight, so that
/// a missing update would hardly change the result. With weights three times as large, or queries twice as large, a
/// missing update changes it by a tenth or more. (Larger keys instead would make the updates chaotic, and rounding
/// errors as large as that.)
void sharpen(Setup& s) {
  const at::NoGradGuard no_grad;
  if (s.core) s.core->association_core->in_proj_weight.mul_(3);
  if (s.which.is_op()) s.input.mul_(2);
}

}  // namespace

Errors largest_errors(const Case& which) {
  Setup setup(which, backend_of(which));
  sharpen(setup);
  const auto ours = results_of(setup, library_forward);
  const OnlyBackend only(SDPBackend::math);
  const auto math = results_of(setup, sdpa_forward);
  auto exact_case = which;
  exact_case.dtype = at::kDouble;
  Setup reference(exact_case, Backend::composite);
  copy(setup, reference);
  const auto exact = results_of(reference, library_forward);
  return {largest_error(ours, exact), largest_error(math, exact)};
}

std::string first_line(const std::exception& error) {
  const auto* of_torch = dynamic_cast<const c10::Error*>(&error);
  const std::string text = of_torch != nullptr ? of_torch->what_without_backtrace() : error.what();
  return text.substr(0, text.find('\n'));
}

}  // namespace hopfield::bench
