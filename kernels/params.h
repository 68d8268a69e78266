#pragma once

// One call of the ops retrieve and pool as plain data: what the kernels of every device are given, and what they write.
// Pointers are to memory of that device. Nothing here owns memory.

#include <cstdint>
#include <limits>

namespace hopfield::kernels {

/// The number format of patterns. Kernels compute in float32.
enum class ElementType : uint8_t { float32, bfloat16, float16 };

/// How scores t become weights: exp(t) / sum exp(t); exp(t) / (1 + sum exp(t)), as if one more score were 0 and
/// belonged to no key; or [(alpha - 1) t - tau]_+^(1 / (alpha - 1)), with tau so that the weights sum to 1.
enum class Separation : uint8_t { softmax, softmax1, entmax };

/// A tensor [batch, heads, rows, width] by its strides in elements. The width is contiguous. A dimension with the
/// stride 0 is shared. Ragged tensors [total rows, heads, width] have no stride for the batch: their rows are those of
/// all batch elements.
struct Strided {
  void* data = nullptr;  ///< null: there is no such tensor
  int64_t batch = 0, head = 0, row = 0;
};

/// What is added to single scores [batch, heads, queries, keys], by strides in elements.
struct ScoreMask {
  enum class Kind : uint8_t { none, boolean, float32 };
  Kind kind = Kind::none;  ///< boolean: true excludes the score. float32: the number is added; -inf excludes.
  const void* data = nullptr;
  int64_t batch = 0, head = 0, query = 0, key = 0;
};

/// The projection of a pool. Its keys k = W y + b are never formed from the instances y: the queries are mapped to the
/// space of the instances. The softmax needs beta xi . W y alone, since b moves all scores of a query by one amount.
struct KeyMap {
  const float* weight = nullptr;      ///< W [heads, depth, width]; null: the call is no pool
  const float* transposed = nullptr;  ///< W^T [heads, width, depth], which only the CPU's kernels read
  const float* bias = nullptr;        ///< b [heads, depth], or null
  // The CPU's kernels need rows of weight, transposed and bias that are padded with zeros to multiples of 16 floats.
  bool normalize = false;  ///< instances first pass the core of LayerNorm (no weight, no bias)
  float normalize_eps = 0.0f;
};

/// A call: T updates xi <- softmax(beta xi K^T) K of each query, then the read-out Z = softmax(beta xi K^T) V.
///
/// The call of a pool has `map`. Its stored patterns are then the raw instances, which all heads share; an update is
/// xi <- W w + b with the mean instance w under the association, and the read-out is that mean.
struct Call {
  int64_t batch = 0, heads = 0;
  int64_t queries = 0;  ///< of each batch element; of ragged queries their number in all bags together
  int64_t keys = 0;     ///< stored patterns of each batch element; of ragged patterns their number in all bags together
  int64_t depth = 0;    ///< width of a query, and of a stored pattern unless the call is a pool
  int64_t width = 0;    ///< width of what is read out; of a pool: of an instance
  ElementType type = ElementType::float32;
  Strided state, stored;
  Strided values;                    ///< no data: the stored patterns are read out
  const int64_t* offsets = nullptr;  ///< ragged [batch + 1]: bag n owns the rows offsets[n] .. offsets[n + 1]
  /// The same for ragged queries, which only the CPU's kernels read, for calls that are no pool: the state and all
  /// results are [queries, heads, ..] then instead of [batch, heads, queries, ..]. Their stored patterns are ragged,
  /// too.
  const int64_t* state_offsets = nullptr;
  /// Added to all scores of a key, -inf excludes it: [batch or 1, keys], of ragged patterns [keys]; or null.
  const float* key_bias = nullptr;
  int64_t key_bias_batch = 0;  ///< elements from batch element to batch element of the key bias; 0: shared
  ScoreMask mask;
  bool is_causal = false;              ///< query l attends to the keys 0 .. l of its set only
  const float* beta = nullptr;         ///< [heads]
  const int64_t* steps_max = nullptr;  ///< updates of each head, at most [heads]
  const float* eps = nullptr;          ///< threshold of the stop rule [heads]; 0 or less: all updates are made
  int64_t most_steps = 0;              ///< the largest of steps_max
  /// Which movement the stop rule compares with eps. false: |xi_{t+1} - xi_t| of each query. true: the Frobenius norm
  /// of the change of a head's association, the largest in the batch.
  bool per_head = false;
  /// Others than softmax are read by the CPU's kernels alone, for calls that are no pool and do not stop per head.
  Separation separation = Separation::softmax;
  double alpha = 1.0;    ///< of entmax, above 1 and at most 2, which is sparsemax
  double dropout = 0.0;  ///< probability of dropping an entry of the final association
  uint64_t seed = 0;     ///< of the dropout mask
  KeyMap map;

  constexpr bool is_pool() const { return map.weight != nullptr; }
  constexpr bool is_ragged() const { return offsets != nullptr; }
  constexpr bool has_ragged_queries() const { return state_offsets != nullptr; }
  constexpr int64_t rows() const { return (has_ragged_queries() ? 1 : batch) * heads * queries; }
  constexpr bool has_values() const { return values.data != nullptr; }
  /// The number of keys that a query may attend to by the causal mask, of a set with so many.
  constexpr int64_t visible(int64_t query, int64_t of_set) const {
    return is_causal && query + 1 < of_set ? query + 1 : of_set;
  }
  constexpr bool has_mask() const { return mask.kind != ScoreMask::Kind::none; }
  /// Width of a stored pattern.
  constexpr int64_t stored_width() const { return is_pool() ? width : depth; }
  /// Whether all batch elements (all heads) have the same stored patterns, values and key bias.
  constexpr bool shares_batch() const {
    return !is_ragged() && stored.batch == 0 && (!has_values() || values.batch == 0) && key_bias_batch == 0;
  }
  constexpr bool shares_heads() const { return stored.head == 0 && (!has_values() || values.head == 0); }
};

/// What the forward pass keeps for the backward pass: of each query, for each of T updates or T + 1 associations. Null
/// where it is not wanted. Rows are [batch, heads, queries], of ragged queries [queries, heads].
struct Saved {
  void* states = nullptr;  ///< after 1 .. T updates [T, rows, depth], each row padded as the device's kernels need it
  void* rounding_error = nullptr;  ///< what those states lost where they are kept in 16 bits, likewise
  /// Of each association the largest score and the sum of the exponentials, or what entmax has in its place.
  float* sums = nullptr;    ///< [T + 1, rows, 2]
  float* output = nullptr;  ///< Z before it is rounded to the call's type [rows, width]; not of entmax
  float* means = nullptr;   ///< of a pool: mean instances that the updates found [T, rows, width]
  float* mass = nullptr;    ///< of a pool: sum of the final association [rows]
};

/// What the forward pass writes. Arrays are contiguous over the rows [batch, heads, queries], of ragged queries
/// [queries, heads].
struct Outputs {
  Strided output;  ///< Z, of the call's type
  Strided state;   ///< xi_T, of the call's type
  float* logsumexp = nullptr;
  float* residual = nullptr;  ///< what the stop rule compared last; NaN: nothing was updated
  int64_t* steps = nullptr;   ///< updates made
  bool* converged = nullptr;
  float* mass = nullptr;  ///< of a pool: sum of the final association, which dropout changes
  /// Scores of the final association, biases included, by strides in elements; of ragged patterns without one for the
  /// batch; or null.
  float* scores = nullptr;
  int64_t score_batch = 0, score_head = 0, score_query = 0, score_key = 0;
  Saved saved;
};

/// What the backward pass reads beside the call, and what it writes. Rows are those of Outputs.
struct Gradients {
  // Gradients that come in. No data, or null: there is none. That of the output is always there.
  Strided output, state;
  const float* logsumexp = nullptr;
  const float* mass = nullptr;
  // From the forward pass.
  Saved saved;
  const int64_t* steps = nullptr;                            ///< updates made
  int64_t last_steps = std::numeric_limits<int64_t>::max();  ///< the state before that many last updates is a constant
  // Written.
  Strided query;           ///< gradient of the state before the first update
  Strided stored, values;  ///< gradients of the patterns; no data: not wanted
  float* beta = nullptr;   ///< each query's share [rows]
  // Of a pool, for the gradients of W and b; zero where a row made no such update.
  float* products = nullptr;  ///< dS Y of the T + 1 associations [T + 1, rows, width]
  float* states = nullptr;    ///< gradients of the states after 1 .. T updates [T, rows, depth]
};

}  // namespace hopfield::kernels
