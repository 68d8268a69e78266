#pragma once

// Which queries retrieve from which patterns. A set is one memory of stored patterns and all queries that retrieve from
// it: those of one batch element and head, or of the whole batch or of all heads where they share the patterns.

#include <kernels/cuda/launch.h>
#include <kernels/cuda/retrieve.h>

#include <algorithm>

namespace hopfield::kernels::cuda {

/// How the queries are divided into sets, and those of a set into tiles.
struct RetrieveSets {
  bool all_batch, all_heads;  ///< one set has the queries of the whole batch, of all heads
  int64_t sets, rows;         ///< number of sets, and queries of each
  int64_t tiles;              ///< of a set's queries
};

inline RetrieveSets retrieve_sets(const RetrieveCall& call, int64_t tile_rows) {
  const auto shares = [&](int64_t Strided::*stride) {
    return call.stored.*stride == 0 && (call.values.data == nullptr || call.values.*stride == 0);
  };
  RetrieveSets s{};
  s.all_batch = !call.is_ragged() && shares(&Strided::batch) && call.key_bias_batch == 0;
  s.all_heads = shares(&Strided::head);
  s.sets = (s.all_batch ? 1 : call.batch) * (s.all_heads ? 1 : call.heads);
  s.rows = call.rows() / (s.sets > 0 ? s.sets : 1);
  s.tiles = (s.rows + tile_rows - 1) / tile_rows;
  return s;
}

/// Shared memory that a block may have.
inline size_t retrieve_shared_bytes(const RetrieveCall& call) {
  return std::min(device_limits().shared_bytes, call.most_shared_bytes);
}

/// Whether a state is kept with what rounding it to 16 bits lost.
inline bool keeps_rounding_error(const RetrieveCall& call) {
  return call.exact_states && call.type != ElementType::float32;
}

/// Where a query is.
struct QueryPlace {
  int batch = 0, head = 0, query = 0;
  bool exists = false;
  int64_t row = 0;   ///< of [batch, heads, queries]
  int64_t mask = 0;  ///< element of the mask that belongs to the query's first key

  /// The query's row of a tensor.
  template <class T>
  HOPFIELD_DEVICE T* in(const Strided& tensor) const {
    return static_cast<T*>(tensor.data) + batch * tensor.batch + head * tensor.head + query * tensor.row;
  }
};

HOPFIELD_DEVICE QueryPlace query_place(const Call& call, int batch, int head, int query) {
  const int64_t row = (static_cast<int64_t>(batch) * call.heads + head) * call.queries + query;
  return {batch, head, query, true, row, batch * call.mask.batch + head * call.mask.head + query * call.mask.query};
}

/// The patterns of a set, and its queries.
struct RetrieveSet {
  int batch, head;      ///< 0 where the set has all of them
  int64_t first, keys;  ///< rows of its stored patterns: the first one, and how many

  HOPFIELD_DEVICE RetrieveSet(const Call& call, const RetrieveSets& sets, int64_t number) {
    const int64_t heads = sets.all_heads ? 1 : call.heads;
    batch = static_cast<int>(number / heads);
    head = static_cast<int>(number % heads);
    first = call.offsets != nullptr ? call.offsets[batch] : 0;
    keys = call.offsets != nullptr ? call.offsets[batch + 1] - first : call.keys;
  }

  /// Query number `row` of the set.
  HOPFIELD_DEVICE QueryPlace query(const Call& call, const RetrieveSets& sets, int64_t row) const {
    if (row >= sets.rows) return {};
    // In 32 bits: a division of 64 bits takes a hundred instructions. retrieve_reason_against() refuses larger calls.
    const auto number = static_cast<uint32_t>(row), queries = static_cast<uint32_t>(call.queries),
               heads = sets.all_heads ? static_cast<uint32_t>(call.heads) : 1;
    return query_place(call, batch + static_cast<int>(number / queries / heads),
                       head + static_cast<int>(number / queries % heads), static_cast<int>(number % queries));
  }

  /// How many of the set's keys are seen by one of its queries from row `begin` to before row `end`: the first ones, by
  /// the causal mask.
  HOPFIELD_DEVICE int64_t visible(const Call& call, const RetrieveSets& sets, int64_t begin, int64_t end) const {
    if (!call.is_causal) return keys;
    if (end > sets.rows) end = sets.rows;
    if (begin >= end) return 0;
    // Rows of several heads or batch elements include a last query.
    const auto row = static_cast<uint32_t>(begin), last = static_cast<uint32_t>(end - 1),
               queries = static_cast<uint32_t>(call.queries);
    const int64_t seen = row / queries == last / queries ? last % queries + 1 : queries;
    return seen < keys ? seen : keys;
  }

  /// The first of the set's patterns.
  template <class T>
  HOPFIELD_DEVICE const T* patterns(const Strided& tensor) const {
    return static_cast<const T*>(tensor.data) + batch * tensor.batch + head * tensor.head + first * tensor.row;
  }
  HOPFIELD_DEVICE const float* key_bias(const Call& call) const {
    return call.key_bias == nullptr ? nullptr : call.key_bias + batch * call.key_bias_batch + first;
  }
};

}  // namespace hopfield::kernels::cuda
