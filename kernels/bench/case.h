#pragma once

#include <ATen/SDPBackend.h>
#include <ATen/core/Tensor.h>

#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace hopfield::bench {

/// What a benchmark measures, spelled `kind/sizes.../fwd|train/float32|bfloat16|float16`.
///
///     pooling/N/S/d_in/H/d/L/T        HopfieldPooling of N dense bags
///     ragged/N/S_max/d_in/H/d/L/T     the same for bags of 5 to S_max instances
///     layer/N/L/d_in/S/H/d/T          HopfieldLayer with S stored patterns
///     self/N/L/d_in/H/d/T             Hopfield, self-association
///     retrieve/N/H/L/S/d/T            the op
struct Case {
  std::string kind;
  std::vector<int64_t> sizes;
  bool train = false;
  at::ScalarType dtype = at::kFloat;
  at::DeviceType device = at::kCPU;  ///< not part of the name

  std::string name() const;
};

/// Nothing if the text is not a type.
std::optional<at::ScalarType> parse_type(const std::string& text);

/// Nothing if the text is not a case. Without fwd or train the text stands for both.
/// @param type  where the text has none
std::vector<Case> parse_case(const std::string& text, at::ScalarType type = at::kFloat);

/// Cases that are run on the CPU when none is named, and on a GPU.
std::vector<Case> default_cases();
std::vector<Case> default_gpu_cases();

/// The same work on little data.
Case small(Case which);

/// A case that is set up.
struct Work {
  std::function<at::Tensor()> run;       ///< call it as often as wanted; gives the output
  std::function<void()> drop_gradients;  ///< those of the last run, which it leaves as training does
  int64_t input_bytes;                   ///< of the data that goes in: instances, or state and stored patterns
  int64_t moved_bytes;                   ///< what pooling has to read and write of instances at the least, else 0
};

Work library_work(const Case& which);
/// The same by LibTorch: LayerNorms, projections, and T + 1 calls of scaled_dot_product_attention on patterns that are
/// never expanded; ragged bags are padded.
/// @param backend  the only one that attention may use; by default LibTorch chooses. A run throws where it refuses.
Work sdpa_work(const Case& which, std::optional<at::SDPBackend> backend = std::nullopt);

}  // namespace hopfield::bench
