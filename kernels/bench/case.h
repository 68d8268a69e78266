#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <string>
#include <vector>

namespace hopfield::bench {

/// A case that is measured. Its name is `kind/sizes.../fwd|train/float32|bfloat16|float16`; for float32 on a GPU,
/// LibTorch's float32 precision may follow: `/highest|high`.
///
///     pooling/N/S/d_in/H/d/L/T        HopfieldPooling of N dense bags
///     ragged/N/S_max/d_in/H/d/L/T     the same for bags of 5 to S_max instances
///     layer/N/L/d_in/S/H/d/T          HopfieldLayer with S stored patterns
///     self/N/L/d_in/H/d/T             Hopfield, self-association
///     retrieve/N/H/L/S/d/T            the op hopfield::retrieve; each sample has keys and values of its own
///     shared/N/H/L/S/d/T              the same, keys and values shared by the batch
struct Case {
  std::string kind;
  std::vector<int64_t> sizes;
  bool train = false;
  at::ScalarType dtype = at::kFloat;
  std::string precision;  ///< "highest" if empty
  at::Device device = at::kCPU;

  std::string name() const;
  int64_t steps() const { return sizes.back(); }
  bool is_op() const { return kind == "retrieve" || kind == "shared"; }
  /// The number of operations in the op's matrix products: two products for each association and, in training, five
  /// more. 0 for layers.
  double operations() const;
};

/// The cases of a name; none if the text is not the name of a case. A name without fwd or train stands for both, and
/// one without a type for float32.
std::vector<Case> parse_case(const std::string& text);

/// The cases that are run if none is named.
std::vector<Case> default_cases();
/// The same for a GPU, the most important cases first.
std::vector<Case> default_device_cases();

/// The same layer on little data.
Case small(Case which);

/// The case with its data scaled: `scale` times as many bags or samples, or `scale` times as many instances if there is
/// one bag. For the op, the batch is scaled first; if it would have less than two samples, so are queries and patterns.
Case scaled(Case which, double scale);

/// The case on less data, for a comparison with a slow reference. The data takes the same code path in the kernels.
Case shortened(Case which);

/// A case that is ready to be run.
struct Work {
  std::function<void()> run;  ///< may be called any number of times
  int64_t input_bytes;        ///< size of the input data: instances, or state and stored patterns
};

/// The case computed by this library.
Work library_work(const Case& which);
/// The same case computed by LibTorch: LayerNorms, projections, and T + 1 calls of scaled_dot_product_attention.
/// Patterns that a batch shares are not expanded; ragged bags are padded.
Work sdpa_work(const Case& which);

}  // namespace hopfield::bench
