#pragma once

// What the host has asked the device or the driver, and does not ask again at each call.

#include <map>
#include <mutex>
#include <shared_mutex>

namespace hopfield::kernels::cuda {

template <class Value>
struct Answer {
  Value value;
  bool lasts;  ///< false: it may be another one next time, as after an error
};

/// Answers that last, by what was asked. May be used by many threads: one of them asks, the others wait for its answer.
/// A known one takes less than 100 ns. Objects are kept in memory that is never freed,
///
///     static auto& answers = *new Remembered<Key, Value>;
///
/// since other threads may start kernels while the program's static objects are already destroyed.
///
/// Answers hold for the life of the process. So the context of a device must be its primary one, and must not be reset:
/// a new context would know nothing of what kernels were allowed in the one before.
template <class Key, class Value>
class Remembered {
 public:
  /// Returns the answer for `key`: a known one, or that of `ask()`, an Answer<Value>. `ask` must not ask this object.
  template <class Ask>
  Value get(const Key& key, const Ask& ask) {
    {
      const std::shared_lock<std::shared_mutex> lock(mutex_);
      if (const auto known = answers_.find(key); known != answers_.end()) return known->second;
    }
    const std::unique_lock<std::shared_mutex> lock(mutex_);
    if (const auto known = answers_.find(key); known != answers_.end()) return known->second;
    const Answer<Value> answer = ask();
    if (answer.lasts) answers_.emplace(key, answer.value);
    return answer.value;
  }

 private:
  std::shared_mutex mutex_;
  std::map<Key, Value> answers_;
};

}  // namespace hopfield::kernels::cuda
