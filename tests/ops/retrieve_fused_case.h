#pragma once

// Compares retrievals by the fused kernels of the device at hand with the composite in float64. The error may be at
// most twice (for gradients three times) that of the composite in the same precision, plus the rounding of a number of
// the result's size and, of a GPU, what its fast exponentials and logarithms add.

#include "support/device.h"
#include "support/hardware_errors.h"
#include "support/naive.h"
#include "support/retrieve_input.h"
#include <hopfield/ops/retrieve.h>

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <torch/csrc/autograd/autograd.h>

#include <gtest/gtest.h>

#include <cmath>
#include <random>

namespace hopfield::testing {

/// A call, with the inputs and options that were drawn for it.
struct Sample {
  RetrieveInput input;  // float64
  std::vector<int64_t> steps;
  std::vector<double> eps;
  StopRule rule = StopRule::per_query;
  Gradient gradient = Gradient::unrolled();
  Separation separation = Separation::softmax();
  at::Tensor beta;
  double dropout = 0;
  int64_t cap = 8;
  bool own_projection = false;
  double noise = 0;  // of the gradients that come in
  uint64_t noise_seed = 0;
  std::string name;
};

struct Results {
  std::vector<at::Tensor> outputs;    // output, state, logsumexp
  std::vector<at::Tensor> gradients;  // state, stored, projection, beta
  at::Tensor steps;
};

inline Results on_host(Results results) {
  for (auto* tensors : {&results.outputs, &results.gradients}) {
    for (auto& tensor : *tensors) tensor = tensor.defined() ? tensor.cpu() : tensor;
  }
  results.steps = results.steps.cpu();
  return results;
}

inline at::Tensor cast(const at::Tensor& tensor, at::ScalarType type) {
  if (!tensor.defined()) return tensor;
  if (!at::isFloatingType(tensor.scalar_type())) return tensor.to(test_device());
  return tensor.detach().to(test_device(), type).requires_grad_(true);
}

inline Results run(const Sample& sample, at::ScalarType type, Backend backend, bool with_gradient = true) {
  RetrieveInput input = sample.input;
  for (auto* tensor : {&input.state, &input.stored, &input.projection, &input.offsets, &input.masks.padding_mask}) {
    *tensor = cast(*tensor, type);
  }
  const bool is_short = type == at::kBFloat16 || type == at::kHalf;
  for (auto* mask : {&input.masks.association_mask, &input.masks.key_bias}) {
    *mask = cast(*mask, is_short ? at::kFloat : type);
    if (mask->defined()) *mask = mask->detach();
  }
  const auto beta = sample.beta.detach().to(at::kDouble).requires_grad_(true);
  auto options = RetrieveOptions()
                     .beta(beta)
                     .update_steps_max(sample.steps)
                     .update_steps_eps(sample.eps)
                     .update_steps_cap(sample.cap)
                     .stop_rule(sample.rule)
                     .gradient(sample.gradient)
                     .separation(sample.separation)
                     .dropout(sample.dropout)
                     .generator(at::detail::createCPUGenerator(7))
                     .backend(backend);
  const at::AutoGradMode grad_mode(with_gradient);
  const auto r = retrieve(input, options);
  Results results{{r.output, r.state, r.logsumexp}, {}, r.steps};
  if (!with_gradient) return on_host(std::move(results));
  std::vector<at::Tensor> inputs{input.state, input.stored};
  if (input.projection.defined()) inputs.push_back(input.projection);
  inputs.push_back(beta);
  // Weights of the results in the loss, the same for all precisions; rows without logsumexp have no gradient.
  std::vector<at::Tensor> weights;
  for (size_t i = 0; i < results.outputs.size(); ++i) {
    const auto& output = results.outputs[i];
    auto weight = randn(output.sizes(), 90 + i);
    if (sample.noise > 0) weight = weight * (1 + sample.noise * randn(output.sizes(), sample.noise_seed + 90 + i));
    weights.push_back(weight.to(output.options().requires_grad(false)));
    if (i == 2) weights.back().masked_fill_(at::isneginf(output), 0.0);
  }
  results.gradients = torch::autograd::grad(results.outputs, inputs, weights, std::nullopt, false, true);
  return on_host(std::move(results));
}

/// Largest and mean error, infinity where NaN or infinities are not in the same places.
inline std::pair<double, double> errors(const at::Tensor& found, const at::Tensor& reference) {
  if (found.numel() == 0) return {0, 0};
  const auto all = absolute_errors(found, reference);
  return {all.max().item<double>(), all.mean().item<double>()};
}

inline double rounding_of(const at::Tensor& reference, at::ScalarType type) {
  if (reference.numel() == 0) return 0;
  const auto rounded = (reference.to(type) + 0.3).sub(0.3).to(at::kDouble);
  return 2 *
         at::where(at::isfinite(reference), rounded - reference, at::zeros_like(reference)).abs().max().item<double>();
}

/// What exponentials of a GPU add: a weight is off by kExp2Error and so is their sum.
inline double error_of_weights(const at::Tensor& reference) {
  if (!runs_the_gpus_kernels() || reference.numel() == 0) return 0;
  return 2 * kExp2Error * finite_part(reference).abs().max().item<double>();
}

/// The errors of one call: {largest, mean, rounding} for each output and gradient.
struct Errors {
  double largest, mean, rounding;
};

inline std::vector<Errors> all_errors(const Results& found, const Results& reference, at::ScalarType type) {
  std::vector<Errors> all;
  const auto add = [&](const at::Tensor& a, const at::Tensor& b) {
    if (!b.defined()) return all.push_back({0, 0, 0});
    const auto [largest, mean] = errors(a, b);
    all.push_back({largest, mean, rounding_of(b, type) + error_of_weights(b)});
  };
  for (size_t i = 0; i < reference.outputs.size(); ++i) add(found.outputs[i], reference.outputs[i]);
  for (size_t i = 0; i < reference.gradients.size(); ++i) add(found.gradients[i], reference.gradients[i]);
  return all;
}

/// The inputs that a call in another precision gets, in float64.
inline Sample rounded_to(const Sample& sample, at::ScalarType type) {
  auto result = sample;
  for (auto* tensor : {&result.input.state, &result.input.stored, &result.input.projection}) {
    if (tensor->defined()) *tensor = tensor->to(type).to(at::kDouble);
  }
  for (auto* mask : {&result.input.masks.association_mask, &result.input.masks.key_bias}) {
    if (mask->defined() && mask->scalar_type() == at::kDouble) *mask = mask->to(at::kFloat).to(at::kDouble);
  }
  return result;
}

/// The same call with inputs and incoming gradients that differ by a random part of themselves, of size `amount`.
inline Sample varied(const Sample& sample, double amount, uint64_t seed) {
  auto result = sample;
  const auto vary = [&](at::Tensor& tensor) {
    if (tensor.defined()) tensor = tensor * (1 + amount * randn(tensor.sizes(), ++seed));
  };
  vary(result.input.state);
  vary(result.input.stored);
  vary(result.input.projection);
  vary(result.input.masks.key_bias);
  if (result.input.masks.association_mask.defined() &&
      result.input.masks.association_mask.scalar_type() == at::kDouble) {
    vary(result.input.masks.association_mask);
  }
  result.noise = amount;
  result.noise_seed = seed;
  return result;
}

/// What a GPU adds to the error of a logsumexp: that of the sum of the exponentials, and of its logarithm.
inline double error_of_logsumexp(const Sample& sample) {
  if (!runs_the_gpus_kernels()) return 0;
  const auto& stored = sample.input.stored;
  const auto keys = static_cast<double>(stored.size(stored.dim() == 3 ? 0 : 2));
  return kExp2Error + std::log(2.0) * kLog2Error * std::max(1.0, std::log2(std::max(keys, 1.0)));
}

inline std::string broken_rule(const std::vector<Errors>& fused, const std::vector<Errors>& plain,
                               double of_logsumexp) {
  const char* names[] = {"output", "state", "logsumexp", "gradient 0", "gradient 1", "gradient 2", "gradient 3"};
  for (size_t i = 0; i < fused.size(); ++i) {
    const double largest = i < 3 && !runs_the_gpus_kernels() ? 2 : 3, mean = i < 3 ? 1.5 : 3;
    const auto& f = fused[i];
    const double of_device = i == 2 ? of_logsumexp : 0;
    if (f.largest <= largest * plain[i].largest + f.rounding + of_device &&
        f.mean <= mean * plain[i].mean + f.rounding / 4 + of_device)
      continue;
    return c10::str(names[i], ": largest error ", f.largest, " against ", plain[i].largest, " plain, mean ", f.mean,
                    " against ", plain[i].mean, ", rounding ", f.rounding);
  }
  return "";
}

/// Tensor cores round states and weights to 16 bits on the way, which the composite does not. This may have as much
/// effect as the same rounding of the inputs.
inline bool rounds_on_the_way(at::ScalarType type) {
  return runs_the_gpus_kernels() && (type == at::kBFloat16 || type == at::kHalf);
}

/// Errors of a call that differs from this one in rounding alone.
inline std::vector<Errors> errors_of_rounding(const Sample& sample, const Results& reference, at::ScalarType type,
                                              uint64_t seed) {
  if (rounds_on_the_way(type)) {
    const auto noisy = varied(rounded_to(sample, type), type == at::kHalf ? 0x1p-12 : 0x1p-9, 1000 * seed);
    return all_errors(run(noisy, at::kDouble, Backend::composite), reference, type);
  }
  auto other = rounded_to(varied(sample, 1e-3, 1000 * seed), at::kFloat);
  other.noise = 0;
  return all_errors(run(other, type, Backend::composite), run(rounded_to(other, type), at::kDouble, Backend::composite),
                    type);
}

/// The gradient of sparsemax jumps where a weight becomes zero. A key so near to the threshold that rounding decides
/// has as much effect as a small change of the inputs, which moves other keys over the threshold.
inline std::vector<Errors> errors_of_jumps(const Sample& sample, const Results& reference, at::ScalarType type,
                                           uint64_t seed) {
  auto moved = varied(rounded_to(sample, type), 0x1p-18, 1000 * seed);
  moved.noise = 0;
  return all_errors(run(moved, at::kDouble, Backend::composite), reference, type);
}

inline void compare(const Sample& sample, at::ScalarType type) {
  const auto reference = run(rounded_to(sample, type), at::kDouble, Backend::composite);
  const auto plain = run(sample, type, Backend::composite);
  const auto fused = run(sample, type, Backend::fused);
  // A stop rule near its threshold may count differently in another precision: the values are then not comparable.
  if (!plain.steps.equal(reference.steps) || !fused.steps.equal(reference.steps)) {
    EXPECT_LE((fused.steps - reference.steps).abs().max().item<int64_t>(), 1) << sample.name;
    return;
  }
  const auto fused_errors = all_errors(fused, reference, type);
  const auto of_logsumexp = error_of_logsumexp(sample);
  auto plain_errors =
      rounds_on_the_way(type) ? errors_of_rounding(sample, reference, type, 0) : all_errors(plain, reference, type);
  const auto allow = [&](const std::vector<Errors>& more, size_t first) {
    for (size_t j = first; j < more.size(); ++j) {
      plain_errors[j].largest = std::max(plain_errors[j].largest, more[j].largest);
      plain_errors[j].mean = std::max(plain_errors[j].mean, more[j].mean);
    }
  };
  // The error of few numbers, or of equal ones, depends on chance: the plain error is then the worst of some calls.
  constexpr uint64_t kVariations = 16;
  for (uint64_t i = 1; i <= kVariations && !broken_rule(fused_errors, plain_errors, of_logsumexp).empty(); ++i) {
    allow(errors_of_rounding(sample, reference, type, i), 0);
  }
  constexpr uint64_t kJumps = 8;
  const bool jumps = sample.separation.kind() == Separation::Kind::sparsemax;
  for (uint64_t i = 1; jumps && i <= kJumps && !broken_rule(fused_errors, plain_errors, of_logsumexp).empty(); ++i) {
    allow(errors_of_jumps(sample, reference, type, i), reference.outputs.size());
  }
  EXPECT_EQ(broken_rule(fused_errors, plain_errors, of_logsumexp), "") << sample.name << " " << type;
}

/// Draws a random case: layout, masks and options, and sizes that are small and odd or around the edges of tiles.
inline Sample draw(uint64_t seed) {
  std::mt19937_64 random(seed);
  const auto pick = [&](std::initializer_list<int64_t> values) { return values.begin()[random() % values.size()]; };
  RetrieveShape shape;
  shape.batch = pick({1, 2, 3, 5});
  shape.heads = pick({1, 2, 3});
  shape.queries = pick({1, 2, 3, 7, 16, 17, 33, 64, 65, 131});
  shape.keys = pick({1, 2, 5, 15, 16, 17, 63, 64, 65, 127, 130, 511, 512, 513, 1100});
  shape.depth = pick({1, 3, 8, 15, 16, 17, 32, 40, 64, 65, 130});
  shape.width = pick({1, 7, 16, 24, 32, 64, 70});
  const auto layout = kLayouts[random() % std::size(kLayouts)];
  auto mask = kMaskKinds[random() % std::size(kMaskKinds)];
  if (layout == Layout::ragged && !is_for_ragged(mask)) mask = MaskKind::none;
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
  if (sample.rule == StopRule::per_query && !runs_the_gpus_kernels()) {
    const Separation others[] = {Separation::softmax1(), Separation::sparsemax(), Separation::entmax(1.5),
                                 Separation::entmax(1.3)};
    const auto number = random() % 16;
    if (number < std::size(others)) sample.separation = others[number];
  }
  sample.name =
      drawn.name + c10::str(" seed ", seed, " N ", shape.batch, " H ", shape.heads, " L ", shape.queries, " S ",
                            shape.keys, " d ", shape.depth, " d_v ", shape.width, " steps ", sample.steps, " eps ",
                            sample.eps, " ", to_string(sample.rule), " ", to_string(sample.gradient), " ",
                            to_string(sample.separation), " beta ", beta, " dropout ", sample.dropout);
  return sample;
}

inline Sample plain_sample(RetrieveShape shape, Layout layout, bool own_projection, int64_t steps, double beta,
                           uint64_t seed, const Separation& separation = Separation::softmax()) {
  Sample sample;
  sample.input = make_case(layout, MaskKind::none, own_projection, seed, shape).input;
  sample.steps = {steps};
  sample.eps = {0.0};
  sample.beta = at::full({}, beta, at::kDouble);
  sample.own_projection = own_projection;
  sample.separation = separation;
  sample.name = c10::str("beta ", beta, " S ", shape.keys, " ", to_string(separation), " ");
  return sample;
}

}  // namespace hopfield::testing
