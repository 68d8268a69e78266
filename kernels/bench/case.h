#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <string>
#include <vector>

namespace hopfield::bench {

/// What a benchmark measures, spelled `kind/sizes.../fwd|train/float32|bfloat16|float16`, and for float32 on a GPU also
/// `/highest|high`, LibTorch's float32 precision.
///
///     pooling/N/S/d_in/H/d/L/T        HopfieldPooling of N dense bags
///     ragged/N/S_max/d_in/H/d/L/T     the same for bags of 5 to S_max instances
///     layer/N/L/d_in/S/H/d/T          HopfieldLayer with S stored patterns
///     self/N/L/d_in/H/d/T             Hopfield, self-association
///     retrieve/N/H/L/S/d/T            the op, on queries, keys and values of its own
///     shared/N/H/L/S/d/T              the same, keys and values shared by the batch
struct Case {
  std::string kind;
  std::vector<int64_t> sizes;
  bool train = false;
  at::ScalarType dtype = at::kFloat;
  std::string precision;  ///< empty: highest
  at::Device device = at::kCPU;

  std::string name() const;
  int64_t steps() const { return sizes.back(); }
  bool is_op() const { return kind == "retrieve" || kind == "shared"; }
  /// Of the op's matrix products: two for an association and, in training, five more. 0 for layers.
  double operations() const;
};

/// Nothing if the text is not a case. Without fwd or train, and without a type, the text stands for several.
std::vector<Case> parse_case(const std::string& text);

/// Cases that are run when none is named.
std::vector<Case> default_cases();
/// The same for a GPU, the most important first.
std::vector<Case> default_device_cases();

/// The same work on little data.
Case small(Case which);

/// With `scale` times as many bags, or where there is one bag with `scale` times as many instances. The op: with a
/// batch `scale` times as large and, where that is less than two, with fewer queries and patterns.
Case scaled(Case which, double scale);

/// On less data that takes the same way through the kernels, for a comparison with a slow reference.
Case shortened(Case which);

/// A case that is set up.
struct Work {
  std::function<void()> run;  ///< call it as often as wanted
  int64_t input_bytes;        ///< of the data that goes in: instances, or state and stored patterns
};

Work library_work(const Case& which);
/// The same by LibTorch: LayerNorms, projections, and T + 1 calls of scaled_dot_product_attention on patterns that are
/// never expanded; ragged bags are padded.
Work sdpa_work(const Case& which);

}  // namespace hopfield::bench
