#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

namespace hopfield::cuda_on_host {

struct Shape {
  std::array<int64_t, 3> grid;
  int64_t block;
  size_t shared_bytes;
  int64_t cluster;
};

/// Runs `kernel` once for every thread of the grid: the blocks of a cluster together, clusters one after the other, and
/// each thread up to where it has to wait. Shared memory holds bytes 0xFF (NaN, or -1) when a block begins and when it
/// has ended. Returns an empty string, or a sentence that names block and thread and what went wrong: an exception, a
/// wrong use of the device's functions, or that no thread can go on.
std::string launch(const Shape& shape, const std::function<void()>& kernel);

/// Sets the order of clusters and of the threads in them: 0 is the natural one, any other number shuffles both. Returns
/// the number before. At first it is that of the environment variable HOPFIELD_CUDA_ON_HOST_ORDER, or 0.
uint64_t set_order(uint64_t seed);

}  // namespace hopfield::cuda_on_host
