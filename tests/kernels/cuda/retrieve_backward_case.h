#pragma once

// Retrieval's backward pass on the device, and its comparison with the derivative of the formula.

#include "retrieve_case.h"

namespace hopfield::kernels::cuda {

using hopfield::testing::in_order;
using hopfield::testing::PlainGradient;
using hopfield::testing::PlainLoss;

constexpr int64_t kAllSteps = std::numeric_limits<int64_t>::max();

/// A gradient of patterns in the form in which the kernels write it.
struct PatternGradient {
  PatternGradient(RetrievalOnDevice& device, const Retrieval& r, int64_t of_width)
      : form(pattern_gradient_form(device.call)), width(of_width) {
    const bool ragged = device.call.is_ragged();
    const int64_t heads = form.all_heads ? 1 : r.heads, keys = device.call.keys;
    extents = {form.all_batch || ragged ? 1 : r.batch, heads, keys, width};
    const bool keys_first = r.keys_first || ragged;
    target = {nullptr, ragged ? 0 : heads * keys * width, keys_first ? width : keys * width,
              keys_first ? heads * width : width};
    part = extents[0] * heads * keys * width;
    const auto bytes = static_cast<size_t>(part * form.parts) * (form.parts > 1 ? 4 : device.element_size());
    target.data = device.workspace_of(bytes);
  }

  /// The sum of the parts.
  std::vector<double> download(const RetrievalOnDevice& device) const {
    const auto size = static_cast<size_t>(part);
    if (form.parts == 1) return in_order(device.download_typed(target.data, size), target, extents);
    const auto all =
        device.download_floats(static_cast<const float*>(target.data), size * static_cast<size_t>(form.parts));
    std::vector<double> sum(size, 0);
    for (size_t i = 0; i < all.size(); ++i) sum[i % size] += all[i];
    return in_order(sum, target, extents);
  }

  PatternGradientForm form;
  int64_t width;
  std::array<int64_t, 4> extents;
  Strided target;
  int64_t part;
};

/// Runs the backward pass on what the forward pass left. The gradients of patterns are in their order.
inline PlainGradient run_backward(RetrievalOnDevice& device, const Retrieval& r, const PlainLoss& loss, int64_t last) {
  const auto& call = device.call;
  const auto incoming = [&](const std::vector<double>& values, int64_t width) {
    auto at = queries_with_padding(r, width);
    at.data = device.typed(with_padding(values, width));
    return at;
  };
  Gradients g;
  g.output = incoming(loss.output, r.value_width());
  if (!loss.state.empty()) g.state = incoming(loss.state, r.depth);
  if (!loss.logsumexp.empty()) g.logsumexp = device.keep(as_floats(loss.logsumexp));
  g.saved = device.out.saved;
  g.steps = device.out.steps;
  g.last_steps = last;
  g.query = device.result(r.depth);
  g.beta = device.floats(1);
  const PatternGradient stored(device, r, r.depth), values(device, r, r.value_width());
  g.stored = stored.target;
  if (r.width > 0) g.values = values.target;
  auto* workspace = device.workspace_of(retrieve_backward_workspace_size(call));
  RetrievalOnDevice::require_success(retrieve_backward(call, g, {stored.part, values.part}, workspace, nullptr));
  PlainGradient found;
  found.query = device.download(g.query, r.depth);
  found.beta = device.download_floats(g.beta, device.rows());
  found.stored = stored.download(device);
  if (r.width > 0) found.values = values.download(device);
  return found;
}

inline void expect_close(const std::vector<double>& found, const std::vector<double>& reference, double tolerance,
                         const char* name) {
  ASSERT_EQ(found.size(), reference.size()) << name;
  double largest = 1e-6;
  for (const auto value : reference) largest = std::max(largest, std::abs(value));
  for (size_t i = 0; i < found.size(); ++i) {
    ASSERT_NEAR(found[i], reference[i], tolerance * largest) << name << " " << i << " of " << found.size();
  }
}

/// Runs `forward` on the call on the device and then the backward pass.
template <class Forward>
void check_backward(const Retrieval& r, const Forward& forward, int64_t last = kAllSteps, bool output_alone = false) {
  const auto patterns = draw(r);
  PlainLoss loss{random_numbers(r.rows() * r.value_width(), 11, r.type), {}, {}};
  if (!output_alone) {
    loss.state = random_numbers(r.rows() * r.depth, 12, r.type);
    loss.logsumexp = random_numbers(r.rows(), 13, r.type);
  }
  RetrievalOnDevice device(r, patterns);
  forward(device);
  const auto found = run_backward(device, r, loss, last);
  // With the steps that the device made: the tests of the forward pass judge those.
  const auto steps = device.download(device.out.steps, device.rows());
  const auto reference = PlainOracle(patterns).backward(loss, steps, last);
  // As in the forward pass, but the errors of its states and weights meet those of the backward pass, and 16-bit
  // gradients of scores are rounded as well.
  const double tolerance = r.type == ElementType::float32 ? 3e-5 : 8 * hopfield::testing::rounding_of(r.type);
  // The gradients of patterns are sums over all queries and associations.
  const auto terms = r.queries * (r.steps + 1) / pattern_gradient_form(device.call).parts;
  const double of_patterns = tolerance + 2 * hopfield::testing::drift(r.type, r.plain, terms);
  const auto& call = patterns.call;
  const auto batch = call.stored.batch == 0 ? 1 : r.batch;
  expect_close(found.query, reference.query, tolerance, "query");
  expect_close(found.beta, reference.beta, tolerance, "beta");
  expect_close(found.stored, in_order(reference.stored, call.stored, {batch, r.heads, call.keys, r.depth}), of_patterns,
               "stored");
  if (r.width == 0) return;
  expect_close(found.values, in_order(reference.values, call.values, {batch, r.heads, call.keys, r.width}), of_patterns,
               "values");
}

}  // namespace hopfield::kernels::cuda
