#pragma once

#include <c10/core/Allocator.h>
#include <c10/util/ThreadLocalDebugInfo.h>

#include <algorithm>
#include <functional>
#include <memory>

namespace hopfield::testing {

/// The most bytes of tensors on the CPU that were allocated at a time, by this thread, while `work` ran.
inline int64_t peak_bytes(const std::function<void()>& work) {
  struct Count : c10::MemoryReportingInfoBase {
    void reportMemoryUsage(void*, int64_t size, size_t, size_t, c10::Device device) override {
      if (!device.is_cpu()) return;
      now += size;
      most = std::max(most, now);
    }
    bool memoryProfilingEnabled() const override { return true; }
    int64_t now = 0, most = 0;
  };
  const auto count = std::make_shared<Count>();
  {
    const c10::DebugInfoGuard guard(c10::DebugInfoKind::PROFILER_STATE, count);
    work();
  }
  return count->most;
}

}  // namespace hopfield::testing
