// Kernels with a planted fault each, compiled for the GPU, to show that compute-sanitizer catches it there:
// device_faults FAULT, or `none`. scripts/gpu_check.sh runs them; faults.cpp is the same for the host.

#include <cuda_runtime.h>

#include <cstdio>
#include <string>

namespace {

enum class Fault { kNone, kOutOfBounds, kMissingBarrier, kDivergentBarrier, kUninitialized };

constexpr int kThreads = 128;

/// Hands each thread's number on to a thread of the next warp, through shared memory.
__global__ void pass_on(const float* in, float* out, Fault fault) {
  __shared__ float numbers[kThreads];
  const int thread = static_cast<int>(threadIdx.x);
  numbers[thread] = in[thread];
  if (fault == Fault::kDivergentBarrier) {
    if (thread < kThreads / 2 - 16) __syncthreads();  // divides a warp, and leaves out others
  } else if (fault != Fault::kMissingBarrier) {
    __syncthreads();
  }
  const float mine = numbers[(thread + 32) % kThreads];
  out[fault == Fault::kOutOfBounds ? thread + 1 : thread] = mine;
}

int fail(cudaError_t error) {
  std::printf("CUDA: %s\n", cudaGetErrorString(error));
  return 1;
}

int run(Fault fault) {
  int devices = 0;
  if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) {
    std::printf("there is no CUDA device\n");
    return 1;
  }
  constexpr size_t kBytes = kThreads * sizeof(float);
  float *in = nullptr, *out = nullptr;
  float found[kThreads] = {};
  auto error = cudaMalloc(&in, kBytes);
  if (error == cudaSuccess) error = cudaMalloc(&out, kBytes);
  if (error == cudaSuccess && fault != Fault::kUninitialized) error = cudaMemset(in, 0, kBytes);
  if (error == cudaSuccess) error = cudaMemset(out, 0, kBytes);
  if (error != cudaSuccess) return fail(error);
  pass_on<<<1, kThreads>>>(in, out, fault);
  error = cudaGetLastError();
  if (error == cudaSuccess) error = cudaMemcpy(found, out, kBytes, cudaMemcpyDeviceToHost);
  if (error != cudaSuccess) return fail(error);
  cudaFree(in);
  cudaFree(out);
  std::printf("ran, out[0] = %g\n", static_cast<double>(found[0]));
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const std::pair<const char*, Fault> faults[] = {
      {"none", Fault::kNone},
      {"out_of_bounds", Fault::kOutOfBounds},
      {"missing_barrier", Fault::kMissingBarrier},
      {"divergent_barrier", Fault::kDivergentBarrier},
      {"uninitialized", Fault::kUninitialized},
  };
  for (const auto& [name, fault] : faults) {
    if (argc == 2 && name == std::string(argv[1])) return run(fault);
  }
  std::printf("expected none, out_of_bounds, missing_barrier, divergent_barrier or uninitialized\n");
  return 2;
}
