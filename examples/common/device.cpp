#include "device.h"

#include "errors.h"
#include "options.h"
#include "text.h"

#include <torch/cuda.h>

#include <fmt/format.h>

#include <charconv>

namespace hopfield::examples {
namespace {

constexpr auto kExpected = "cpu, cuda or cuda:N";

/// The number of a CUDA device: 2 for "cuda:2", 0 for "cuda", -1 for any other text.
int64_t cuda_index(const std::string& device) {
  constexpr size_t kBegin = 5;  // length of "cuda:"
  if (device == "cuda") return 0;
  int64_t index = -1;
  const auto* end = device.data() + device.size();
  const bool fits = device.rfind("cuda:", 0) == 0 && std::from_chars(device.data() + kBegin, end, index).ptr == end;
  return fits ? index : -1;
}

}  // namespace

CLI::Option* add_device(CLI::App& app, std::string& device) {
  return add_text(app, "--device", device, kExpected, kExpected);
}

void check_device(const std::string& device) {
  if (device == "cpu") return;
  const auto index = cuda_index(device);
  if (index < 0) throw UsageError{fmt::format("--device: expected {}, got {}", kExpected, quote(device))};
  const auto count = torch::cuda::is_available() ? static_cast<int64_t>(torch::cuda::device_count()) : 0;
  if (index >= count) {
    throw UsageError{fmt::format("--device: expected a device that is there, got {}; LibTorch sees {} CUDA devices",
                                 quote(device), count)};
  }
}

}  // namespace hopfield::examples
