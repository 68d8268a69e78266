#include <kernels/cuda/pool_workspace.h>
#include <kernels/cuda/warp.h>

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

}  // namespace

size_t cut_pool_workspace(const PoolCall& call, void* memory, PoolWorkspace& workspace) {
  const auto rows = call.bags * call.heads * call.queries, groups = pool_row_groups(call.heads, call.queries);
  const auto room = pool_room(call.width);
  workspace.most_parts = call.total / kPoolPart + call.bags;
  workspace.most_groups = call.total / (static_cast<int64_t>(kPoolPart) * kPoolGroup) + call.bags;
  const auto slots = workspace.most_parts * groups;
  Cutter cutter(memory);
  workspace.plan.first_part = cutter.take<int32_t>(call.bags + 1);
  workspace.plan.first_group = cutter.take<int32_t>(call.bags + 1);
  workspace.group_tickets = cutter.take<uint32_t>(workspace.most_groups * groups);
  workspace.bag_tickets = cutter.take<uint32_t>(call.bags * groups);
  workspace.states = cutter.take<float>(rows * call.depth);
  workspace.frozen = cutter.take<uint8_t>(rows);
  workspace.queries = cutter.take<float>(call.bags * groups * kPoolRows * room);
  workspace.partial_sums = cutter.take<float>(slots * 3 * kPoolRows);
  workspace.partial_means = cutter.take<float>(slots * kPoolRows * room);
  return static_cast<size_t>(cutter.size());
}

size_t pool_workspace_size(const PoolCall& call) {
  PoolWorkspace workspace;
  return cut_pool_workspace(call, nullptr, workspace);
}

}  // namespace hopfield::kernels::cuda
