#pragma once

// Attention-like retrieval: tiles of queries that stay on chip for all steps. The host's view. Design:
// kernels/README.md.

#include <kernels/cuda/element_type.h>
#include <kernels/cuda/stream.h>

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
};

/// What forward writes; rows are [batch, heads, queries]. Null where it is not wanted, from scores on.
struct RetrieveOutputs {
  void* output;  ///< Z of the call's type [rows, width]
  void* state;   ///< xi_T, likewise [rows, depth]
  float* logsumexp;
  float* residual;
  int64_t* steps;
  uint8_t* converged;
  float* states;  ///< in float32, room to work in and the result [rows, depth]
  float* scores;  ///< of the final association with biases, by strides
  int64_t score_batch, score_head, score_query, score_key;  ///< ragged: no batch stride
  float* saved_states;                                      ///< after 1 .. T updates [T, rows, depth]
  float* saved_sums;    ///< largest score, times log2 e, and sum of exponentials of each association [T + 1, rows, 2]
  float* saved_output;  ///< Z in float32 [rows, width]
};

/// Why the current device cannot serve calls of this depth, width and type; empty if it can.
std::string retrieve_reason_against(const RetrieveCall& call);

/// Enqueues all steps in one launch; reads nothing back. Returns an empty string, or why it could not be started.
[[nodiscard]] std::string retrieve_forward(const RetrieveCall& call, const RetrieveOutputs& outputs, Stream stream);

}  // namespace hopfield::kernels::cuda
