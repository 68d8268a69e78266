#include "harness.h"

#include <kernels/cuda/cluster.h>

#include <cmath>

namespace hopfield::kernels::cuda {
namespace {

/// Every block of a cluster adds up the numbers of all its blocks, in the order of ranks. The last rank sets the flag
/// of block 0.
HOPFIELD_KERNEL void sum_in_cluster(const float* in, float* out) {
  auto* mine = shared_memory<float>();
  const int thread = thread_index(), at = block_index().x * block_size() + thread;
  mine[thread] = in[at];
  cluster_sync();
  float sum = 0;
  for (int rank = 0; rank < cluster_size(); ++rank) sum += *peer_shared(mine + thread, rank);
  float* flag = mine + block_size();
  if (cluster_rank() == cluster_size() - 1 && thread == 0) *peer_shared(flag, 0) = 1000.0f;
  cluster_sync();
  out[at] = cluster_rank() == 0 ? sum + *flag : sum;
}

void check_cluster(int64_t size) {
  constexpr size_t kThreads = 64, kClusters = 3;
  const auto blocks = static_cast<size_t>(size) * kClusters;
  const auto values = random_floats(blocks * kThreads, 1);
  const DeviceArray<float> in(values), out(values.size(), NAN);
  const LaunchShape shape{{static_cast<int64_t>(blocks), 1, 1}, kThreads, (kThreads + 1) * sizeof(float), size};
  ASSERT_EQ(launch(sum_in_cluster, shape, nullptr, in.data(), out.data()), "");
  const auto found = out.download();
  for (size_t block = 0; block < blocks; ++block) {
    const size_t rank = block % static_cast<size_t>(size);
    for (size_t thread = 0; thread < kThreads; ++thread) {
      float sum = 0;
      for (size_t i = 0; i < static_cast<size_t>(size); ++i) sum += values[(block - rank + i) * kThreads + thread];
      EXPECT_EQ(found[block * kThreads + thread], rank == 0 ? sum + 1000.0f : sum) << block << ", " << thread;
    }
  }
}

TEST_F(CudaHopper, ClusterReducesThroughSharedMemory) {
  for (const int64_t size : {1, 2, 4, 8}) check_cluster(size);
}

TEST_F(CudaHopper, ClustersHaveToDivideTheGrid) {
  const DeviceArray<float> memory(1, 0.0f);
  EXPECT_NE(launch(sum_in_cluster, {{3, 1, 1}, 32, 33 * sizeof(float), 2}, nullptr, memory.data(), memory.data()), "");
}

}  // namespace
}  // namespace hopfield::kernels::cuda
