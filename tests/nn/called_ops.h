#pragma once

#include <ATen/record_function.h>

#include <functional>
#include <memory>
#include <set>
#include <string>

namespace hopfield::testing {

/// Names of the dispatcher's ops that a call runs, such as "hopfield::pool": what a profiler shows to users.
inline std::set<std::string> called_ops(const std::function<void()>& call) {
  static thread_local std::set<std::string> names;
  names.clear();
  const auto callback = at::addThreadLocalCallback(
      at::RecordFunctionCallback([](const at::RecordFunction& function) -> std::unique_ptr<at::ObserverContext> {
        names.insert(function.name());
        return nullptr;
      }).scopes({at::RecordScope::FUNCTION}));
  call();
  at::removeCallback(callback);
  return names;
}

}  // namespace hopfield::testing
