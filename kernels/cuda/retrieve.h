#pragma once

// Attention-like retrieval on the GPU as the host sees it. A block takes a tile of queries through all updates and the
// read-out without writing in between. kernels/README.md gives an overview.
//
// All pointers are to memory of the current device. The rows of stored patterns and values begin at multiples of 16
// bytes. So do, in the backward pass, those of the queries and of the gradients that come in.

#include <kernels/cuda/cuda_stream.h>
#include <kernels/params.h>

#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>

namespace hopfield::kernels::cuda {

/// The widest queries, patterns and values that the kernels take.
constexpr int64_t kRetrieveMostWidth = 256;

/// A call of retrieval, and what the kernels of the GPU have to know beside it.
struct RetrieveCall : Call {
  bool plain_float32 = false;  ///< multiply float32 numbers without tensor cores, which would round to tf32
  /// Products of 16-bit patterns take each state as the sum of two 16-bit numbers. A stop rule needs that: a state that
  /// is rounded to 16 bits moves by more than a small eps or not at all.
  bool exact_states = false;
  // Tests lower the limits of the device with these.
  size_t most_shared_bytes = std::numeric_limits<size_t>::max();       ///< shared memory of a block
  int64_t most_multiprocessors = std::numeric_limits<int64_t>::max();  ///< 0: patterns are never kept on chip
};

/// The form in which the backward pass writes the gradients of stored patterns and values, [parts, batch or 1, heads or
/// 1, keys, width]. Patterns that several queries share get one gradient: the sum over the batch, or over heads.
struct PatternGradientForm {
  bool all_batch, all_heads;  ///< the dimension has the extent 1
  int64_t parts;              ///< 1: written in the call's type. More: in float32, and the caller adds the parts up
};
PatternGradientForm pattern_gradient_form(const RetrieveCall& call);

/// Elements from part to part of the gradients of patterns.
struct PartSizes {
  int64_t stored = 0, values = 0;
};

/// Elements from row to row of Saved::states and Saved::rounding_error: `depth`, padded to a multiple of 16 bytes.
int64_t retrieve_saved_row(const RetrieveCall& call);

/// Why the current device cannot serve calls of this depth, width and type; empty if it can.
std::string retrieve_reason_against(const RetrieveCall& call);

/// Why the backward pass cannot; it also depends on `exact_states` and on whether there are values.
std::string retrieve_backward_reason_against(const RetrieveCall& call);

/// Whether the forward pass keeps the patterns in shared memory, on the current device, in place of streaming them for
/// each association. The results have the same bits either way.
bool retrieve_keeps_patterns(const RetrieveCall& call);

/// Bytes of device memory that the passes work in. The memory is aligned to 16 bytes and need not be cleared. That of
/// the forward pass begins with the states in float32, one or two arrays [rows, depth].
size_t retrieve_workspace_size(const RetrieveCall& call);
size_t retrieve_backward_workspace_size(const RetrieveCall& call);

/// Enqueues the forward pass: one launch, or with the stop rule per_head T + 2 of them. Nothing is read back. What
/// the workspace holds afterwards and what is saved for the backward pass have one form, whichever kernel runs. Returns
/// an empty string, or why a kernel could not be started or chosen.
[[nodiscard]] std::string retrieve_forward(const RetrieveCall& call, const Outputs& outputs, void* workspace,
                                           Stream stream);

/// Enqueues the backward pass: one launch for the queries, and one each for the stored patterns and the values where
/// their gradient is wanted.
[[nodiscard]] std::string retrieve_backward(const RetrieveCall& call, const Gradients& gradients,
                                            const PartSizes& parts, void* workspace, Stream stream);

}  // namespace hopfield::kernels::cuda
