#pragma once

// Which queries retrieve from which patterns. A set is one memory of stored patterns and all queries that retrieve from
// it: those of one batch element and head, or of the whole batch or all heads where patterns are shared.

#include <kernels/cuda/launch.h>
#include <kernels/cuda/retrieve.h>

#include <algorithm>

namespace hopfield::kernels::cuda {

/// How rows are shared out to sets and tiles.
struct RetrieveSets {
  bool all_batch, all_heads;  ///< are in one set
  int64_t sets, rows;         ///< rows of a set
  int64_t tiles;              ///< of a set's rows
};

inline RetrieveSets retrieve_sets(const RetrieveCall& call, int64_t tile_rows) {
  const auto shares = [&](int64_t Strided::*stride) {
    return call.stored.*stride == 0 && (call.values.data == nullptr || call.values.*stride == 0);
  };
  RetrieveSets s{};
  s.all_batch = call.offsets == nullptr && shares(&Strided::batch) && call.key_bias_batch == 0;
  s.all_heads = shares(&Strided::head);
  s.sets = (s.all_batch ? 1 : call.batch) * (s.all_heads ? 1 : call.heads);
  s.rows = call.batch * call.heads * call.queries / (s.sets > 0 ? s.sets : 1);
  s.tiles = (s.rows + tile_rows - 1) / tile_rows;
  return s;
}

/// Shared memory that a block may have.
inline size_t retrieve_shared_bytes(const RetrieveCall& call) {
  return std::min(device_limits().shared_bytes, call.most_shared_bytes);
}

/// A query.
struct QueryPlace {
  int batch = 0, head = 0, query = 0;
  bool exists = false;
  int64_t row = 0;   ///< of [batch, heads, queries]
  int64_t mask = 0;  ///< where its scores begin in the mask

  /// Its first feature in a tensor.
  template <class T>
  HOPFIELD_DEVICE const T* in(const Strided& tensor) const {
    return static_cast<const T*>(tensor.data) + batch * tensor.batch + head * tensor.head + query * tensor.row;
  }
};

/// The patterns of a set, and its queries.
struct RetrieveSet {
  int batch, head;      ///< 0 where all are in the set
  int64_t first, keys;  ///< the stored patterns' rows

  HOPFIELD_DEVICE RetrieveSet(const RetrieveCall& call, const RetrieveSets& sets, int64_t number) {
    const int64_t heads = sets.all_heads ? 1 : call.heads;
    batch = static_cast<int>(number / heads);
    head = static_cast<int>(number % heads);
    first = call.offsets != nullptr ? call.offsets[batch] : 0;
    keys = call.offsets != nullptr ? call.offsets[batch + 1] - first : call.keys;
  }

  HOPFIELD_DEVICE QueryPlace query(const RetrieveCall& call, const RetrieveSets& sets, int64_t row) const {
    QueryPlace place;
    if (row >= sets.rows) return place;
    // A set has fewer than 2^31 rows, see retrieve_reason_against(): divisions of 64 bits take a hundred instructions.
    const auto number = static_cast<uint32_t>(row), queries = static_cast<uint32_t>(call.queries),
               heads = sets.all_heads ? static_cast<uint32_t>(call.heads) : 1;
    place.exists = true;
    place.query = static_cast<int>(number % queries);
    place.head = head + static_cast<int>(number / queries % heads);
    place.batch = batch + static_cast<int>(number / queries / heads);
    place.row = (static_cast<int64_t>(place.batch) * call.heads + place.head) * call.queries + place.query;
    place.mask = place.batch * call.mask.batch + place.head * call.mask.head + place.query * call.mask.query;
    return place;
  }

  /// The first of the set's patterns.
  template <class T>
  HOPFIELD_DEVICE const T* patterns(const Strided& tensor) const {
    return static_cast<const T*>(tensor.data) + batch * tensor.batch + head * tensor.head + first * tensor.row;
  }
  HOPFIELD_DEVICE const float* key_bias(const RetrieveCall& call) const {
    return call.key_bias == nullptr ? nullptr : call.key_bias + batch * call.key_bias_batch + first;
  }
};

}  // namespace hopfield::kernels::cuda
