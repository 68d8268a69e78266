#include <kernels/cuda/device.h>
#include <kernels/cuda/launch.h>
#include <kernels/cuda/pool_workspace.h>

namespace hopfield::kernels::cuda {
namespace {

constexpr int64_t kAlignment = 256;

/// Takes pieces off a stretch of memory, or only measures.
class Cutter {
 public:
  explicit Cutter(void* memory) : memory_(static_cast<unsigned char*>(memory)) {}
  template <class T>
  T* take(int64_t count) {
    const auto place = size_;
    size_ += (count * static_cast<int64_t>(sizeof(T)) + kAlignment - 1) / kAlignment * kAlignment;
    return memory_ == nullptr ? nullptr : reinterpret_cast<T*>(memory_ + place);
  }
  int64_t size() const { return size_; }

 private:
  unsigned char* memory_;
  int64_t size_ = 0;
};

/// How a bag is worked on: in a cluster of a size, or in parts.
struct Way {
  int cluster_size;  ///< -1: in parts
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

/// Of some bags.
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

/// Lists the bags that stay on chip, cuts the others into parts and groups of parts; an empty one has one of each. One
/// block.
HOPFIELD_KERNEL void plan_bags(PoolCall call, OnChip on_chip, PoolPlan plan) {
  // Each thread takes a run of bags: it counts, learns what comes before it, and writes.
  const int threads = block_size();
  const int64_t run = (call.bags + threads - 1) / threads;
  const int64_t begin = thread_index() * run < call.bags ? thread_index() * run : call.bags;
  const int64_t end = begin + run < call.bags ? begin + run : call.bags;
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
      if (way.cluster_size == size) plan.on_chip_bags[size * call.bags + counts.on_chip[size]] = static_cast<int>(bag);
    }
    counts.add(way);
  }
  if (thread_index() == threads - 1) {
    plan.first_part[call.bags] = counts.parts;
    plan.first_group[call.bags] = counts.groups;
    for (int size = 0; size < kPoolClusterSizes; ++size) plan.on_chip_counts[size] = counts.on_chip[size];
  }
}

void cut(const PoolCall& call, Cutter& cutter, PoolWorkspace& workspace) {
  const auto rows = call.bags * call.heads * call.queries, groups = pool_row_groups(call.heads, call.queries);
  const auto room = pool_room(call.width);
  workspace.most_parts = call.total / kPoolPart + call.bags;
  workspace.most_groups = call.total / (static_cast<int64_t>(kPoolPart) * kPoolGroup) + call.bags;
  const auto slots = workspace.most_parts * groups;
  workspace.plan.first_part = cutter.take<int32_t>(call.bags + 1);
  workspace.plan.first_group = cutter.take<int32_t>(call.bags + 1);
  workspace.plan.on_chip_bags = cutter.take<int32_t>(kPoolClusterSizes * call.bags);
  workspace.plan.on_chip_counts = cutter.take<int32_t>(kPoolClusterSizes);
  workspace.group_tickets = cutter.take<uint32_t>(workspace.most_groups * groups);
  workspace.bag_tickets = cutter.take<uint32_t>(call.bags * groups);
  workspace.states = cutter.take<float>(rows * call.depth);
  workspace.frozen = cutter.take<uint8_t>(rows);
  workspace.queries = cutter.take<float>(call.bags * groups * kPoolRows * room);
  workspace.partial_sums = cutter.take<float>(slots * 3 * kPoolRows);
  workspace.partial_means = cutter.take<float>(slots * kPoolRows * room);
}

}  // namespace

size_t cut_pool_workspace(const PoolCall& call, void* memory, PoolWorkspace& workspace) {
  Cutter cutter(memory);
  cut(call, cutter, workspace);
  return static_cast<size_t>(cutter.size());
}

size_t cut_pool_workspace(const PoolCall& call, const PoolGradients& gradients, void* memory, PoolWorkspace& workspace,
                          PoolBackwardWorkspace& backward) {
  Cutter cutter(memory);
  cut(call, cutter, workspace);
  const auto rows = call.bags * call.heads * call.queries, all_rows = pool_all_rows(call);
  backward.carried = cutter.take<float>(rows * call.depth);
  backward.means = cutter.take<float>(rows);
  backward.rows = cutter.take<float>(call.bags * all_rows * pool_room(call.width));
  const bool wanted = gradients.instances != nullptr;
  auto* weights = cutter.take<float>(wanted ? call.total * all_rows : 0);
  backward.weights = wanted ? weights : nullptr;
  return static_cast<size_t>(cutter.size());
}

std::string plan_pool(const PoolCall& call, const PoolWorkspace& workspace, const OnChip& on_chip, Stream stream) {
  constexpr int64_t kThreads = 256;
  return launch(plan_bags, {{1, 1, 1}, kThreads, kThreads * sizeof(Counts)}, stream, call, on_chip, workspace.plan);
}

size_t pool_workspace_size(const PoolCall& call) {
  PoolWorkspace workspace;
  return cut_pool_workspace(call, nullptr, workspace);
}

size_t pool_backward_workspace_size(const PoolCall& call, const PoolGradients& gradients) {
  PoolWorkspace workspace;
  PoolBackwardWorkspace backward;
  return cut_pool_workspace(call, gradients, nullptr, workspace, backward);
}

}  // namespace hopfield::kernels::cuda
