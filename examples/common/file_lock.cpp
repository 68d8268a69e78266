#include "file_lock.h"

#include "errors.h"
#include "text.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <system_error>

namespace hopfield::examples {
namespace {

/// Whether the path still leads to the open file. Another process may have deleted it when it released its lock.
bool is_still(const std::string& path, int descriptor) {
  struct stat here {
  }, there{};
  return ::fstat(descriptor, &here) == 0 && ::stat(path.c_str(), &there) == 0 && here.st_dev == there.st_dev &&
         here.st_ino == there.st_ino;
}

}  // namespace

FileLock::FileLock(const std::string& option, const std::string& path) {
  std::error_code error;
  const auto place = std::filesystem::weakly_canonical(std::filesystem::absolute(path), error);
  lock_path_ = (error ? path : place.string()) + ".lock";
  for (;;) {
    descriptor_ = ::open(lock_path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW, 0666);
    if (descriptor_ == -1) {
      throw UsageError{option + ": expected to make the file " + quote(lock_path_) +
                       ", got: " + std::generic_category().message(errno)};
    }
    const bool is_taken = ::flock(descriptor_, LOCK_EX | LOCK_NB) == -1 && errno == EWOULDBLOCK;
    if (!is_taken && is_still(lock_path_, descriptor_)) return;
    ::close(descriptor_);
    if (is_taken) {
      throw UsageError{option + ": expected a file that no other process uses, got " + quote(path) +
                       "; wait for the other run, or choose another file"};
    }
  }
}

FileLock::~FileLock() {
  if (is_still(lock_path_, descriptor_)) ::unlink(lock_path_.c_str());
  ::close(descriptor_);
}

}  // namespace hopfield::examples
