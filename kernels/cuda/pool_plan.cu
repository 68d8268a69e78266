#include <kernels/cuda/device.h>
#include <kernels/cuda/launch.h>
#include <kernels/cuda/pool_workspace.h>
#include <kernels/cuda/workspace.h>

namespace hopfield::kernels::cuda {
namespace {

/// How a bag is worked on: by a cluster, or in parts.
struct Way {
  int cluster_size;  ///< number of the size: the cluster has 1 << size blocks; -1: in parts
  int parts, groups;
};

HOPFIELD_DEVICE Way way_of(const PoolCall& call, const OnChip& on_chip, int64_t bag) {
  const int64_t count = call.offsets[bag + 1] - call.offsets[bag];
  for (int size = 0; size < on_chip.sizes; ++size) {
    if (count <= on_chip.slice_rows << size) return {size, 0, 0};
  }
  const auto parts = static_cast<int>(count > 0 ? (count + kPoolPart - 1) / kPoolPart : 1);
  return {-1, parts, (parts + kPoolGroup - 1) / kPoolGroup};
}

/// Sums over some bags.
struct Counts {
  int parts = 0, groups = 0, on_chip[kPoolClusterSizes] = {};

  HOPFIELD_DEVICE void add(const Way& way) {
    parts += way.parts;
    groups += way.groups;
    for (int size = 0; size < kPoolClusterSizes; ++size) on_chip[size] += way.cluster_size == size ? 1 : 0;
  }
  HOPFIELD_DEVICE void add(const Counts& other) {
    parts += other.parts;
    groups += other.groups;
    for (int size = 0; size < kPoolClusterSizes; ++size) on_chip[size] += other.on_chip[size];
  }
};

/// Fills the plan: lists the bags that stay on chip, and cuts the others into parts and groups of parts. An empty bag
/// has one of each. Launched with a single block.
HOPFIELD_KERNEL void plan_bags(PoolCall call, OnChip on_chip, PoolPlan plan) {
  // Each thread has a run of neighbouring bags. It counts their parts, adds up the counts of the threads before it, and
  // writes where its bags begin.
  const int threads = block_size();
  const int64_t run = (call.batch + threads - 1) / threads;
  const int64_t begin = thread_index() * run < call.batch ? thread_index() * run : call.batch;
  const int64_t end = begin + run < call.batch ? begin + run : call.batch;
  Counts counts;
  for (int64_t bag = begin; bag < end; ++bag) counts.add(way_of(call, on_chip, bag));
  auto* all = shared_memory<Counts>();
  all[thread_index()] = counts;
  sync_threads();
  counts = {};
  for (int i = 0; i < thread_index(); ++i) counts.add(all[i]);
  for (int64_t bag = begin; bag < end; ++bag) {
    plan.first_part[bag] = counts.parts;
    plan.first_group[bag] = counts.groups;
    const auto way = way_of(call, on_chip, bag);
    for (int size = 0; size < kPoolClusterSizes; ++size) {
      if (way.cluster_size == size) plan.on_chip_bags[size * call.batch + counts.on_chip[size]] = static_cast<int>(bag);
    }
    counts.add(way);
  }
  if (thread_index() == threads - 1) {
    plan.first_part[call.batch] = counts.parts;
    plan.first_group[call.batch] = counts.groups;
    for (int size = 0; size < kPoolClusterSizes; ++size) plan.on_chip_counts[size] = counts.on_chip[size];
  }
}

void cut(const PoolCall& call, WorkspaceCutter& cutter, PoolWorkspace& workspace) {
  const int64_t groups = pool_row_groups(call), padded_width = pool_padded_width(call);
  workspace.most_parts = call.keys / kPoolPart + call.batch;
  workspace.most_groups = call.keys / (static_cast<int64_t>(kPoolPart) * kPoolGroup) + call.batch;
  const auto slots = workspace.most_parts * groups;
  workspace.plan.first_part = cutter.take<int32_t>(call.batch + 1);
  workspace.plan.first_group = cutter.take<int32_t>(call.batch + 1);
  workspace.plan.on_chip_bags = cutter.take<int32_t>(kPoolClusterSizes * call.batch);
  workspace.plan.on_chip_counts = cutter.take<int32_t>(kPoolClusterSizes);
  workspace.group_tickets = cutter.take<uint32_t>(workspace.most_groups * groups);
  workspace.bag_tickets = cutter.take<uint32_t>(call.batch * groups);
  workspace.states = cutter.take<float>(call.rows() * call.depth);
  workspace.frozen = cutter.take<uint8_t>(call.rows());
  workspace.queries = cutter.take<float>(call.batch * groups * kPoolRows * padded_width);
  workspace.partial_sums = cutter.take<float>(slots * 3 * kPoolRows);
  workspace.partial_means = cutter.take<float>(slots * kPoolRows * padded_width);
}

}  // namespace

size_t cut_pool_workspace(const PoolCall& call, void* memory, PoolWorkspace& workspace) {
  WorkspaceCutter cutter(memory);
  cut(call, cutter, workspace);
  return cutter.size();
}

size_t cut_pool_workspace(const PoolCall& call, const Gradients& gradients, void* memory, PoolWorkspace& workspace,
                          PoolBackwardWorkspace& backward) {
  WorkspaceCutter cutter(memory);
  cut(call, cutter, workspace);
  const auto all_rows = pool_all_rows(call);
  backward.carried = cutter.take<float>(call.rows() * call.depth);
  backward.means = cutter.take<float>(call.rows());
  backward.rows = cutter.take<float>(call.batch * all_rows * pool_padded_width(call));
  const bool wanted = gradients.stored.data != nullptr;
  auto* weights = cutter.take<float>(wanted ? call.keys * all_rows : 0);
  backward.weights = wanted ? weights : nullptr;
  return cutter.size();
}

std::string plan_pool(const PoolCall& call, const PoolWorkspace& workspace, const OnChip& on_chip, Stream stream) {
  constexpr int64_t kThreads = 256;
  return launch(plan_bags, {{1, 1, 1}, kThreads, kThreads * sizeof(Counts)}, stream, call, on_chip, workspace.plan);
}

size_t pool_workspace_size(const PoolCall& call) {
  PoolWorkspace workspace;
  return cut_pool_workspace(call, nullptr, workspace);
}

size_t pool_backward_workspace_size(const PoolCall& call, const Gradients& gradients) {
  PoolWorkspace workspace;
  PoolBackwardWorkspace backward;
  return cut_pool_workspace(call, gradients, nullptr, workspace, backward);
}

}  // namespace hopfield::kernels::cuda
