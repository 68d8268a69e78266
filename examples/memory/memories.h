#pragma once

#include "options.h"
#include <hopfield/memory/memory.h>

#include <ATen/core/Tensor.h>

#include <memory>
#include <string>
#include <vector>

namespace hopfield::image_memory {

/// The names of memories, and of what their options can be.
const std::vector<std::string>& memory_kinds();
const std::vector<std::string>& rule_names();
const std::vector<std::string>& similarity_names();

/// The order of the polynomial memory. Images are far more similar to each other than random patterns, for which 3 is
/// enough.
constexpr int64_t kDefaultOrder = 30;

/// @throws UsageError if an option is set that another kind of memory has
void check_kind(const MemoryOptions& options);

/// Whether the memory holds images in black and white, as pixels of -1 and 1.
bool is_black_and_white(const std::string& kind);
/// Whether the memory has a weight for every two pixels.
bool has_weights(const std::string& kind);

/// The options with everything set that the kind of memory has. What the caller has not set follows from the patterns:
/// * continuous: beta = 16384 / d, which tells images apart if their pixels differ by 0.05 (root mean square); with the
///   cosine similarity 4096, which does about the same;
/// * kernel: beta = 2 / r^2 for a radius r of 0.8 times the distance at which the median image has its nearest other.
MemoryOptions completed(MemoryOptions options, const at::Tensor& patterns);

/// A memory of patterns [n, d]. @param options  completed()
std::unique_ptr<memory::Memory> make_memory(const MemoryOptions& options, const at::Tensor& patterns);

/// "continuous (similarity euclidean, beta 256)". @param options  completed()
std::string text_of(const MemoryOptions& options);

}  // namespace hopfield::image_memory
