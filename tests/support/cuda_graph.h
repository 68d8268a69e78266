#pragma once

#include <ATen/cuda/CUDAContext.h>
#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDAGuard.h>

#include <functional>
#include <memory>

namespace hopfield::testing {

/// The graph of a function's work. The function runs once before the capture, so that what is made at the first call
/// exists.
inline std::unique_ptr<at::cuda::CUDAGraph> capture(const std::function<void()>& work) {
  const c10::cuda::CUDAStreamGuard guard(c10::cuda::getStreamFromPool());
  work();
  at::cuda::device_synchronize();
  auto graph = std::make_unique<at::cuda::CUDAGraph>();
  graph->capture_begin();
  try {
    work();
  } catch (...) {
    graph->capture_end();
    throw;
  }
  graph->capture_end();
  return graph;
}

}  // namespace hopfield::testing
