#pragma once

// Attention-like retrieval: tiles of queries that stay on chip for all steps. The host's view. Design:
// kernels/README.md.

#include <kernels/cuda/element_type.h>
#include <kernels/cuda/cuda_stream.h>

#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>

namespace hopfield::kernels::cuda {

/// The widest patterns that the kernels take.
constexpr int64_t kRetrieveMostWidth = 256;

/// A tensor [batch, heads, rows, width] by its strides in elements; width is contiguous. A stride of 0 shares.
struct Strided {
  const void* data = nullptr;
  int64_t batch = 0, head = 0, row = 0;
};

/// What is added to single scores [batch, heads, queries, keys], by strides in elements.
struct ScoreMask {
  enum class Kind : uint8_t { none, boolean, float32 };
  Kind kind = Kind::none;  ///< boolean: true excludes; float32: added, -inf excludes
  const void* data = nullptr;
  int64_t batch = 0, head = 0, query = 0, key = 0;
};

/// A call: T updates xi <- softmax(beta xi K^T) K, then Z = softmax(beta xi K^T) V. All pointers are to device memory.
struct RetrieveCall {
  int64_t batch = 0, heads = 0, queries = 0;
  int64_t keys = 0;              ///< of each batch element; ragged: of all
  int64_t depth = 0, width = 0;  ///< of states and stored patterns; of values
  Strided state;
  Strided stored;                    ///< rows aligned to 16 bytes, like those of values
  Strided values;                    ///< no data: the stored patterns, and width is depth
  const int64_t* offsets = nullptr;  ///< ragged [batch + 1]: bag n owns the rows offsets[n] .. offsets[n + 1]
  const float* key_bias = nullptr;   ///< [batch or 1, keys] or null; -inf excludes, and the key is not looked at
  int64_t key_bias_batch = 0;        ///< elements from batch element to batch element, 0: shared
  ScoreMask mask;
  const float* beta = nullptr;         ///< [heads]
  const int64_t* steps_max = nullptr;  ///< [heads]
  const float* eps = nullptr;          ///< [heads]; 0 or less: no early stop
  float dropout = 0.0f;                ///< of the final association
  uint64_t seed = 0;
  int64_t most_steps = 0;
  ElementType type = ElementType::float32;
  bool plain_float32 = false;  ///< float32 products without tensor cores
  bool exact_states = false;   ///< 16-bit products take a state as two numbers: for eps below their rounding
  // What forward, of memory backward, too, may use of the device.
  size_t most_shared_bytes = std::numeric_limits<size_t>::max();       ///< of a block
  int64_t most_multiprocessors = std::numeric_limits<int64_t>::max();  ///< to keep patterns; 0: all are streamed
  /// The stop rule: eps is compared with |xi_{t+1} - xi_t| of each query, or with the Frobenius norm of the change of a
  /// head's associations, the largest of the batch.
  bool compares_heads = false;
};

/// What forward leaves for backward; null where it is not wanted.
struct RetrieveSaved {
  void* states = nullptr;  ///< of the call's type, after 1 .. T updates [T, rows, retrieve_saved_row()]
  void* rest = nullptr;    ///< with exact_states: what rounding to the type left of them
  float* sums = nullptr;  ///< largest score, times log2 e, and sum of exponentials of each association [T + 1, rows, 2]
};

/// Elements from row to row of saved states, a multiple of 16 bytes.
int64_t retrieve_saved_row(const RetrieveCall& call);

/// What forward writes; rows are [batch, heads, queries].
struct RetrieveOutputs {
  void* output;  ///< Z of the call's type [rows, width]
  void* state;   ///< xi_T, likewise [rows, depth]
  float* logsumexp;
  float* residual;
  int64_t* steps;
  uint8_t* converged;
  float* states;    ///< in float32, room to work in [rows, depth], and the result; with compares_heads two of them
  void* workspace;  ///< retrieve_workspace_size() bytes, aligned to 16; it need not be cleared
  float* scores;    ///< of the final association with biases, by strides; or null
  int64_t score_batch, score_head, score_query, score_key;  ///< ragged: no batch stride
  RetrieveSaved saved;
};

/// Where the gradient of patterns goes: a tensor [batch, heads, keys, width] by its strides in elements, or none.
struct PatternGradient {
  void* data = nullptr;
  int64_t batch = 0, head = 0, row = 0;
};

/// In which form backward writes the gradients of patterns: summed over the batch and over heads where their queries
/// share the patterns; and in parts, which are to be added up.
struct PatternGradientForm {
  bool all_batch, all_heads;
  int64_t parts;  ///< 1: of the call's type; more: float32, each as far from the next as the tensor is large
};
PatternGradientForm pattern_gradient_form(const RetrieveCall& call);

/// What backward gets and what it writes.
struct RetrieveGradients {
  // What came in.
  Strided output;                    ///< dL/dZ [batch, heads, queries, width], rows aligned to 16 bytes
  Strided state;                     ///< dL/dxi_T, likewise with depth; no data: none
  const float* logsumexp = nullptr;  ///< dL/dlogsumexp [rows]; or null
  // What forward left. The queries' rows are aligned to 16 bytes, too.
  RetrieveSaved saved;
  const int64_t* steps = nullptr;
  int64_t last_steps = std::numeric_limits<int64_t>::max();  ///< the state before so many updates is a constant
  // Room to work in.
  void* passed = nullptr;  ///< gradients of the states after 1 .. T updates [T, rows, retrieve_saved_row()]
  float* marks = nullptr;  ///< [T + 1, rows, 4], aligned to 16 bytes
  // Results.
  void* query = nullptr;  ///< of the call's type [rows, depth]
  float* beta = nullptr;  ///< each query's share [rows]
  PatternGradient stored, values;
  int64_t stored_size = 0, values_size = 0;  ///< elements of a part
};

/// Why the current device cannot serve calls of this depth, width and type; empty if it can.
std::string retrieve_reason_against(const RetrieveCall& call);

/// The same for backward, given exact_states and whether there are values, too.
std::string retrieve_backward_reason_against(const RetrieveCall& call);

/// Whether forward keeps the patterns in shared memory, on the current device. The results are the same to the bit.
bool retrieve_keeps_patterns(const RetrieveCall& call);

/// Bytes of device memory that retrieve_forward() works in beside the states; 0 unless the call compares heads.
size_t retrieve_workspace_size(const RetrieveCall& call);

/// Enqueues all steps, in one launch unless the call compares heads; reads nothing back. Returns an empty string, or
/// why it could not be started.
[[nodiscard]] std::string retrieve_forward(const RetrieveCall& call, const RetrieveOutputs& outputs, Stream stream);

/// Enqueues backward: one launch for the queries and, where a gradient of patterns is wanted, one more.
[[nodiscard]] std::string retrieve_backward(const RetrieveCall& call, const RetrieveGradients& gradients,
                                            Stream stream);

}  // namespace hopfield::kernels::cuda
