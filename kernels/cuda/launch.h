#pragma once

#include <kernels/cuda/cuda_stream.h>
#include <kernels/cuda/host.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <tuple>
#include <utility>

namespace hopfield::kernels::cuda {

struct LaunchShape {
  int64_t grid[3];          // blocks; the first extent holds 2^31 - 1, the others 65535
  int64_t block;            // threads, whole warps
  size_t shared_bytes = 0;  // of a block
  int64_t cluster = 1;      // blocks of a cluster, along the grid's first extent; more than 1 needs sm_90
  bool overlap = false;     // it may begin before the preceding launch of the stream ends: see grid_dependency_wait()
};

/// What a block may ask for on the current device.
struct DeviceLimits {
  size_t shared_bytes;                 ///< of a block
  size_t multiprocessor_shared_bytes;  ///< of all blocks of a multiprocessor
  size_t reserved_shared_bytes;        ///< of them, for each block
  int64_t cluster;                     ///< blocks of a cluster; above 8 ask cluster_fits()
  int64_t multiprocessors;
  int generation;  ///< compute capability times ten
};
#if defined(HOPFIELD_CUDA_RUNTIME)
DeviceLimits device_limits();

/// Whether the current device can run a cluster of this shape.
bool cluster_fits(const void* kernel, const LaunchShape& shape);

/// Implementation of launch().
std::string launch_with(const void* kernel, const LaunchShape& shape, Stream stream, void** arguments);
#else
/// Those of an H100.
inline DeviceLimits device_limits() { return {227 << 10, 228 << 10, 1 << 10, 16, 132, 90}; }
#endif

template <class... Parameters>
bool cluster_fits(void (*kernel)(Parameters...), const LaunchShape& shape) {
#if defined(HOPFIELD_CUDA_RUNTIME)
  return cluster_fits(reinterpret_cast<const void*>(kernel), shape);
#else
  static_cast<void>(kernel);
  return shape.cluster <= device_limits().cluster;
#endif
}

/// Starts a kernel. Returns an empty string, or a sentence that says why it could not be started.
template <class... Parameters, class... Arguments>
[[nodiscard]] std::string launch(void (*kernel)(Parameters...), const LaunchShape& shape, Stream stream,
                                 Arguments&&... arguments) {
  std::tuple<Parameters...> values(std::forward<Arguments>(arguments)...);
#if defined(HOPFIELD_CUDA_RUNTIME)
  return std::apply(
      [&](auto&... value) {
        void* pointers[] = {const_cast<void*>(static_cast<const void*>(&value))..., nullptr};
        return launch_with(reinterpret_cast<const void*>(kernel), shape, stream, pointers);
      },
      values);
#else
  (void)stream;
  return cuda_on_host::launch(
      {{shape.grid[0], shape.grid[1], shape.grid[2]}, shape.block, shape.shared_bytes, shape.cluster},
      [&] { std::apply(kernel, values); });
#endif
}

}  // namespace hopfield::kernels::cuda
