#pragma once

// Pooling on the GPU as the host sees it: bags of many instances are read out by few queries. The keys W y + b are
// never formed, see KeyMap in kernels/params.h. kernels/README.md gives an overview.
//
// All pointers are to memory of the current device. In a PoolCall
// * `offsets` is always set, for bags of one size, too, and `keys` is the number of instances of all bags,
// * `stored` are the instances {data, 0, 0, row stride}, whose rows begin at multiples of 16 bytes,
// * `state` is float32 and contiguous [batch or 1, heads, queries, depth], with the batch stride 0 where it is shared,
// * there are no `values`, and no `mask` of single scores.
//
// Of Outputs::output and ::state, Gradients::query, and of the gradients that come in only `data` is read: they are
// float32 and contiguous. Gradients::stored is the gradient of the instances, of the call's type, with a row stride.
// Outputs::scores are [keys, heads, queries], contiguous.

#include <kernels/cuda/cuda_stream.h>
#include <kernels/params.h>

#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>

namespace hopfield::kernels::cuda {

/// A bag that stays on chip is worked on by a cluster of 1, 2, 4, 8 or 16 blocks.
constexpr int kPoolClusterSizes = 5;
constexpr int kPoolMostCluster = 1 << (kPoolClusterSizes - 1);

/// A call of pooling, and what the kernels of the GPU have to know beside it.
struct PoolCall : Call {
  bool plain_float32 = false;  ///< multiply float32 numbers without tensor cores, which would round to tf32
  // Bounds on the number of instances of each bag, where the host knows them. The host does not read `offsets`, but
  // with the bounds it need not start kernels that would find nothing to do.
  int64_t smallest_bag = 0, largest_bag = std::numeric_limits<int64_t>::max();
  // Tests restrict with these what stays on chip in the forward pass.
  int64_t most_cluster = kPoolMostCluster;  ///< blocks of a cluster; 0: all bags are streamed
  int64_t most_slice_tiles = 0;             ///< tiles of instances that a block keeps; 0: as many as fit
};

/// Why the current device cannot serve calls of this width, depth and type; empty if it can.
std::string pool_reason_against(const PoolCall& call);

/// The forward pass keeps bags of up to so many instances on chip, on the current device; -1: none.
int64_t pool_most_on_chip(const PoolCall& call);

/// Bytes of device memory that the passes work in. The memory is aligned to 16 bytes and need not be cleared.
size_t pool_workspace_size(const PoolCall& call);
size_t pool_backward_workspace_size(const PoolCall& call, const Gradients& gradients);

/// Enqueue all kernels of a pass; nothing is read back. Return an empty string, or why a kernel could not be started.
[[nodiscard]] std::string pool_forward(const PoolCall& call, const Outputs& outputs, void* workspace, Stream stream);
[[nodiscard]] std::string pool_backward(const PoolCall& call, const Gradients& gradients, void* workspace,
                                        Stream stream);

}  // namespace hopfield::kernels::cuda
