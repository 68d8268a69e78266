#pragma once

#include <string>

namespace hopfield::examples {

/// Keeps other processes that use this class from a file, by a lock on "<file>.lock" beside it. The system releases the
/// lock when the process ends, however it ends. On file systems without locks, nothing is locked.
class FileLock {
 public:
  /// @param option  begins the error message
  /// @throws UsageError if another process has the lock, or if the lock file cannot be created
  FileLock(const std::string& option, const std::string& path);
  FileLock(const FileLock&) = delete;
  FileLock& operator=(const FileLock&) = delete;
  ~FileLock();

 private:
  std::string lock_path_;
  int descriptor_ = -1;
};

}  // namespace hopfield::examples
