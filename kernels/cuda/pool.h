#pragma once

// Pooling of ragged bags by few queries, keys absorbed: the host's view. Design: kernels/README.md.

#include <kernels/cuda/element_type.h>
#include <kernels/cuda/cuda_stream.h>

#include <cstdint>
#include <limits>
#include <string>

namespace hopfield::kernels::cuda {

using PoolType = ElementType;

/// A row group is the 16 queries that a block works for; a bag has so many of them.
constexpr int kPoolRows = 16;
/// Instances are cut at multiples of a part; parts merge in their order, in groups and then the groups: the bits depend
/// neither on the device nor on the rest of the batch.
constexpr int kPoolPart = 1024;
constexpr int kPoolGroup = 32;
/// Bags that stay on chip are worked on by clusters of 1, 2, 4, 8 or 16 blocks.
constexpr int kPoolClusterSizes = 5;
constexpr int kPoolMostCluster = 1 << (kPoolClusterSizes - 1);

constexpr int64_t pool_row_groups(int64_t heads, int64_t queries) {
  return (heads * queries + kPoolRows - 1) / kPoolRows;
}
/// Widths in shared memory and of workspaces.
constexpr int64_t pool_room(int64_t width) { return (width + 63) / 64 * 64; }
constexpr int64_t kPoolMostWidth = 1024;

/// A call. All pointers are to device memory; rows are [bags, heads, queries], numbered in that order.
struct PoolCall {
  int64_t bags = 0, heads = 0, queries = 0;
  int64_t depth = 0;                   ///< of the states
  int64_t width = 0, total = 0;        ///< of the instances [total, width]
  const void* instances = nullptr;     ///< rows aligned to 16 bytes
  int64_t instance_row = 0;            ///< elements from row to row
  const int64_t* offsets = nullptr;    ///< [bags + 1]
  const float* key_bias = nullptr;     ///< [total] or null; -inf excludes, and the instance is not looked at
  const float* weight = nullptr;       ///< W [heads, depth, width]
  const float* bias = nullptr;         ///< b [heads, depth] or null
  const float* beta = nullptr;         ///< [heads]
  const int64_t* steps_max = nullptr;  ///< [heads]
  const float* eps = nullptr;          ///< [heads]; 0 or less: no early stop
  const float* state = nullptr;        ///< [bags or 1, heads, queries, depth]
  int64_t state_bag = 0;               ///< elements from bag to bag, 0: shared
  bool normalize = false;              ///< instances by LayerNorm's core
  float normalize_eps = 0.0f;
  float dropout = 0.0f;  ///< of the final association
  uint64_t seed = 0;
  int64_t most_steps = 0;
  PoolType type = PoolType::float32;
  bool plain_float32 = false;                                 ///< float32 products without tensor cores
  int64_t smallest_bag = 0;                                   ///< no bag has fewer instances; forward may need to
  int64_t largest_bag = std::numeric_limits<int64_t>::max();  ///< nor more: kernels without work are not started
  // What may be used to keep bags on chip during forward.
  int64_t most_cluster = kPoolMostCluster;  ///< blocks of a cluster; 0: all bags are streamed
  int64_t most_slice_tiles = 0;             ///< tiles of a block; 0: as many as there is room for
};

constexpr int64_t pool_largest_bag(const PoolCall& call) {
  return call.largest_bag < call.total ? call.largest_bag : call.total;
}

/// What forward writes, in float32 but for the counts. Null where it is not wanted, from saved_states on.
struct PoolOutputs {
  float* output;     ///< mean instance [rows, width]
  float* state;      ///< [rows, depth]
  float* logsumexp;  ///< of beta xi . W y and the bias [rows]
  float* residual;
  float* mass;  ///< sum of the final association, which dropout changes [rows]
  int64_t* steps;
  uint8_t* converged;
  float* scores;        ///< of the final association [total, heads, queries]
  float* saved_states;  ///< after 1 .. T updates [T, rows, depth]
  float* saved_sums;    ///< largest score, times log2 e, and sum of exponentials of each association [T + 1, rows, 2]
  float* saved_means;   ///< mean instances that the updates found [T, rows, width]
};

/// Why the current device cannot serve calls of this width, depth and type; empty if it can.
std::string pool_reason_against(const PoolCall& call);

/// Bags of up to so many instances stay on chip during forward, on the current device; -1: none does.
int64_t pool_most_on_chip(const PoolCall& call);

/// Bytes of device memory that pool_forward() works in. It need not be cleared.
size_t pool_workspace_size(const PoolCall& call);

/// Enqueues all steps; reads nothing back. Returns an empty string, or why a kernel could not be started.
[[nodiscard]] std::string pool_forward(const PoolCall& call, const PoolOutputs& outputs, void* workspace,
                                       Stream stream);

/// What backward reads beside the call, and writes. Float32 but for the counts and the instances' gradient.
struct PoolGradients {
  const float* output = nullptr;     ///< dL/doutput [rows, width]
  const float* state = nullptr;      ///< dL/dstate [rows, depth], or null; so are the next two
  const float* logsumexp = nullptr;  ///< [rows]
  const float* mass = nullptr;       ///< [rows]
  // Of the forward pass.
  const float *saved_states = nullptr, *saved_sums = nullptr, *saved_means = nullptr;
  const float *forward_output = nullptr, *forward_mass = nullptr;
  const int64_t* steps = nullptr;
  int64_t last_steps = std::numeric_limits<int64_t>::max();  ///< gradients pass only so many last updates
  // Written.
  void* instances = nullptr;  ///< of the call's type [total, width], or null
  int64_t instance_row = 0;   ///< elements from row to row
  float* query = nullptr;     ///< dL/dstate before the first update [rows, depth]
  float* beta = nullptr;      ///< a row's share [rows]
  float* products = nullptr;  ///< dS Y of each association [T + 1, rows, width]: with beta xi, the gradient of W
  float* states = nullptr;    ///< gradient of the states after 1 .. T updates [T, rows, depth]: with the means, too
};

size_t pool_backward_workspace_size(const PoolCall& call, const PoolGradients& gradients);
[[nodiscard]] std::string pool_backward(const PoolCall& call, const PoolGradients& gradients, void* workspace,
                                        Stream stream);

}  // namespace hopfield::kernels::cuda
