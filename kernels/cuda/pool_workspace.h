#pragma once

// How the work on bags is divided, and the memory that the kernels of a pass share.

#include <kernels/cuda/pool.h>

namespace hopfield::kernels::cuda {

/// The widest instances that the kernels take.
constexpr int64_t kPoolMostWidth = 1024;
/// A block works for 16 queries of a bag, of any heads: a row group.
constexpr int kPoolRows = 16;
/// A bag that is streamed is cut into parts of so many instances, one for each block. The sums of 32 parts are merged
/// in their order, then those of 32 such groups. Since all of this is fixed, the bits of a result depend neither on the
/// device nor on the rest of the batch.
constexpr int kPoolPart = 1024;
constexpr int kPoolGroup = 32;

/// Row groups of a bag.
constexpr int pool_row_groups(const Call& call) {
  return static_cast<int>((call.heads * call.queries + kPoolRows - 1) / kPoolRows);
}
/// Width of an instance in shared memory and in workspaces. Each of four warps has a quarter of it, whole fragments.
constexpr int pool_padded_width(const Call& call) { return static_cast<int>((call.width + 63) / 64 * 64); }
/// No bag has more instances.
constexpr int64_t pool_largest_bag(const PoolCall& call) {
  return call.largest_bag < call.keys ? call.largest_bag : call.keys;
}

/// Which bags stay on chip: those of up to `most_instances()`, in the smallest cluster that can hold them.
struct OnChip {
  int64_t slice_rows = 0;  ///< instances that a block can hold
  int sizes = 0;           ///< clusters of 1, 2, 4, .. blocks are used, so many sizes; 0: no bag stays

  int64_t most(int size) const { return slice_rows << size; }
  int64_t most_instances() const { return sizes == 0 ? -1 : most(sizes - 1); }
};

/// Which blocks work on which bag. A kernel finds that, since the host does not read offsets.
struct PoolPlan {
  int32_t* first_part;      ///< number of each bag's first part among all parts; a bag on chip has none [bags + 1]
  int32_t* first_group;     ///< the same for groups of parts [bags + 1]
  int32_t* on_chip_bags;    ///< for each size of clusters, the bags that they work on [sizes, bags]
  int32_t* on_chip_counts;  ///< and how many these are [sizes]
};

/// Device memory of a call. Row groups are numbered bag by bag. Each part of a bag has a slot for each row group.
struct PoolWorkspace {
  PoolPlan plan;
  uint32_t* group_tickets;  ///< parts that are done, of each group [groups, row groups of a bag]
  uint32_t* bag_tickets;    ///< groups that are done, of each bag [bags, row groups of a bag]
  float* states;            ///< [rows, depth]
  uint8_t* frozen;          ///< whether a row has stopped [rows]
  float* queries;           ///< W^T xi, without beta [bags, row groups * 16, padded width]
  float* partial_sums;      ///< see Partials in pool_block.h [slots, 3, 16]
  float* partial_means;     ///< [slots, 16, padded width]
  int64_t most_parts, most_groups;
};

/// Cuts a workspace into its arrays. Without memory it only counts. Returns the workspace's size.
size_t cut_pool_workspace(const PoolCall& call, void* memory, PoolWorkspace& workspace);

/// Rows that the last kernel of the backward pass multiplies with: two for each association of each query of a bag.
constexpr int64_t pool_all_rows(const Call& call) { return 2 * (call.most_steps + 1) * call.heads * call.queries; }

/// What the backward pass works in besides.
struct PoolBackwardWorkspace {
  float* carried;  ///< gradient of the states on its way from association to association [rows, depth]
  float* means;    ///< of the current association, what dP is compared with [rows]
  float* rows;     ///< of each association the gradient of its result, then W^T xi [bags, all rows, padded width]
  float* weights;  ///< of each association P as it was read out, then beta dS [keys, all rows]; or null
};

size_t cut_pool_workspace(const PoolCall& call, const Gradients& gradients, void* memory, PoolWorkspace& workspace,
                          PoolBackwardWorkspace& backward);

/// Enqueues the kernel that fills the plan.
[[nodiscard]] std::string plan_pool(const PoolCall& call, const PoolWorkspace& workspace, const OnChip& on_chip,
                                    Stream stream);

}  // namespace hopfield::kernels::cuda
