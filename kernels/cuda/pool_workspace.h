#pragma once

#include <kernels/cuda/pool.h>

namespace hopfield::kernels::cuda {

/// Which bags stay on chip: those of up to `most_instances()`, in the smallest cluster that has room for them.
struct OnChip {
  int64_t slice_rows = 0;  ///< instances that a block has room for
  int sizes = 0;           ///< clusters of 1, 2, 4, ..; 0: no bag stays

  int64_t most(int size) const { return slice_rows << size; }
  int64_t most_instances() const { return sizes == 0 ? -1 : most(sizes - 1); }
};

/// Who works on a bag: found on the device, since the host does not read offsets.
struct PoolPlan {
  int32_t* first_part;      ///< where a bag's parts begin among all; a bag on chip has none [bags + 1]
  int32_t* first_group;     ///< and its groups of parts [bags + 1]
  int32_t* on_chip_bags;    ///< by size of the clusters [sizes, bags]
  int32_t* on_chip_counts;  ///< [sizes]
};

/// Device memory of a call. Row groups are numbered bag by bag; `slots` are parts times row groups.
struct PoolWorkspace {
  PoolPlan plan;
  uint32_t* group_tickets;  ///< [groups, row groups of a bag]
  uint32_t* bag_tickets;    ///< [bags, row groups of a bag]
  float* states;            ///< [rows, depth]
  uint8_t* frozen;          ///< [rows]
  float* queries;           ///< beta-free W^T xi [bags, row groups * 16, room]
  float* partial_sums;      ///< largest, sum, kept [slots, 3, 16]
  float* partial_means;     ///< [slots, 16, room]
  int64_t most_parts, most_groups;
};

/// Cuts a workspace; `memory` null: only counts. Returns its size.
size_t cut_pool_workspace(const PoolCall& call, void* memory, PoolWorkspace& workspace);

/// Rows of an association in the last pass of backward: for each step P, then dS, of all of a bag's queries.
constexpr int64_t pool_all_rows(const PoolCall& call) { return 2 * (call.most_steps + 1) * call.heads * call.queries; }

/// What backward works in besides: the rest of a workspace.
struct PoolBackwardWorkspace {
  float* carried;  ///< gradient of the states [rows, depth]
  float* means;    ///< what dP is compared with, for the step at hand [rows]
  float* rows;     ///< for each step the gradient of what the association gave, then W^T xi [bags, all rows, room]
  float* weights;  ///< P as it was read out and beta dS of all steps [total, all rows], or null
};

size_t cut_pool_workspace(const PoolCall& call, const PoolGradients& gradients, void* memory, PoolWorkspace& workspace,
                          PoolBackwardWorkspace& backward);

/// Enqueues what fills the plan.
[[nodiscard]] std::string plan_pool(const PoolCall& call, const PoolWorkspace& workspace, const OnChip& on_chip,
                                    Stream stream);

}  // namespace hopfield::kernels::cuda
