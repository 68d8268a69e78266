#pragma once

#include "kernels/cpu/parallel.h"
#include "kernels/cpu/tile_ops.h"

#include <cstdint>
#include <limits>

namespace hopfield::kernels {

/// A tensor [batch, heads, rows, width] by its strides in elements; width is contiguous. A stride of 0 shares.
struct Tensor4 {
  void* data = nullptr;
  int64_t batch = 0, head = 0, row = 0;
};

/// What is added to single scores [batch, heads, queries, keys], by strides in elements.
struct PairMask {
  enum class Kind : uint8_t { none, boolean, float32 };
  Kind kind = Kind::none;  ///< boolean: true excludes; float32: added, -inf excludes
  const void* data = nullptr;
  int64_t batch = 0, head = 0, query = 0, key = 0;
};

/// Keys that are never formed: k = W y + b of instances y, with one W [depth, instance width] and b for each head. The
/// stored patterns are then the instances, shared by the heads, and the read-out is their mean under the association.
/// The softmax needs beta xi . W y alone, since b moves all scores of a row alike.
struct KeyMap {
  const float* weight = nullptr;      ///< W [heads, depth, padded(instance width)]
  const float* transposed = nullptr;  ///< W^T [heads, instance width, padded(depth)]
  const float* bias = nullptr;        ///< b [heads, padded(depth)] or null
  int64_t depth = 0;                  ///< of the states
};

/// A call of retrieve: T updates xi <- softmax(beta xi K^T) K, then Z = softmax(beta xi K^T) V.
///
/// `batch_shared` and `heads_shared` say that stored patterns, values and key bias are the same for all batch elements
/// or heads. Ragged patterns are [total, heads, width]: bag n owns the rows offsets[n] .. offsets[n + 1].
struct RetrieveProblem {
  int64_t batch = 0, heads = 0, queries = 0, keys = 0, depth = 0, width = 0;
  Type type = Type::float32;
  bool batch_shared = false, heads_shared = false;
  bool own_values = false;           ///< otherwise the values are the stored patterns, and width is depth
  const int64_t* offsets = nullptr;  ///< [batch + 1] or null
  Tensor4 state, stored, values;     ///< values: if own_values
  const float* beta = nullptr;       ///< [heads]
  const float* key_bias = nullptr;   ///< [keys] for each stride key_bias_batch, ragged [total]; or null
  int64_t key_bias_batch = 0;
  PairMask pair;
  const int64_t* steps_max = nullptr;  ///< [heads]
  const float* eps = nullptr;          ///< [heads]; 0 or less: no early stop
  /// The stop rule: eps is compared with |xi_{t+1} - xi_t| of each query, or with the Frobenius norm of the change of a
  /// head's associations, the largest of the batch.
  bool compares_heads = false;
  double dropout = 0.0;
  uint64_t seed = 0;
  const KeyMap* map = nullptr;
  /// Stored patterns minus their mean and divided by their standard deviation over the width: LayerNorm's core.
  bool normalize = false;
  float normalize_eps = 0.0f;

  int64_t state_depth() const { return map != nullptr ? map->depth : depth; }
};

/// What the forward pass writes. Contiguous arrays are [batch, heads, queries].
struct RetrieveOutputs {
  Tensor4 output;  ///< of the problem's type
  Tensor4 state;   ///< likewise, or without data
  float* logsumexp = nullptr;
  float* residual = nullptr;
  int64_t* steps = nullptr;
  bool* converged = nullptr;
  /// Scores of the final association with their biases, or null, by strides; ragged patterns have no batch stride.
  float* scores = nullptr;
  int64_t score_batch = 0, score_head = 0, score_query = 0, score_key = 0;
  // For the backward pass, or null: states after 1 .. T updates [T, rows, depth]; largest score and sum of exponentials
  // of the T + 1 associations [T + 1, rows, 2], more exact than their logsumexp; the output in float32 [rows, width].
  float* saved_states = nullptr;
  float* saved_sums = nullptr;
  float* saved_output = nullptr;
  // With a map only: sum of the final association [rows], which dropout changes; the instances' means that the updates
  // found [T, rows, depth].
  float* mass = nullptr;
  float* saved_means = nullptr;
};

void retrieve_forward(const RetrieveProblem& problem, const RetrieveOutputs& outputs, const Parallel& parallel);

/// What the backward pass reads beside the problem and writes. Arrays are float32 and contiguous.
struct RetrieveGradients {
  const float* output = nullptr;     ///< dL/dZ [rows, width]
  const float* state = nullptr;      ///< dL/dxi_T [rows, state depth], or null
  const float* logsumexp = nullptr;  ///< dL/dlogsumexp [rows], or null
  const float* mass = nullptr;       ///< dL/dmass [rows], or null
  // Of the forward pass.
  const float* saved_states = nullptr;
  const float* saved_sums = nullptr;
  const float* saved_output = nullptr;
  const float* saved_means = nullptr;
  const float* final_mass = nullptr;
  const int64_t* steps = nullptr;
  int64_t most_steps = 0;
  int64_t last_steps = std::numeric_limits<int64_t>::max();  ///< gradients pass only so many last updates
  // Written.
  Tensor4 query;   ///< of the problem's type
  Tensor4 stored;  ///< of the problem's type, laid out like the patterns but with strides of its own; or without data
  Tensor4 values;  ///< likewise, if own_values: both or none
  float* beta = nullptr;  ///< [rows], a row's share
  // With a map only: what its gradient is made of. dS Y of the T + 1 associations [T + 1, rows, depth], and the
  // gradient of the states after 1 .. T updates [T, rows, state depth]; zeros where a row made no such update.
  float* products = nullptr;
  float* states = nullptr;
};

void retrieve_backward(const RetrieveProblem& problem, const RetrieveGradients& gradients, const Parallel& parallel);

}  // namespace hopfield::kernels
