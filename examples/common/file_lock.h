#pragma once

#include <string>

namespace hopfield::examples {

/// Keeps other processes of this kind from a file while this one uses it, by a lock on "<file>.lock" beside it. The
/// system releases the lock of a process that has ended, however it ended. File systems without locks are let pass.
class FileLock {
 public:
  /// @throws UsageError if another process has the lock, or if there is no place for it
  FileLock(const std::string& option, const std::string& path);
  FileLock(const FileLock&) = delete;
  FileLock& operator=(const FileLock&) = delete;
  ~FileLock();

 private:
  std::string lock_path_;
  int descriptor_ = -1;
};

}  // namespace hopfield::examples
