#include "console.h"

#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <system_error>

namespace hopfield::examples {
namespace {

std::atomic<int> first_error{0};

void flush() {
  int none = 0;
  errno = 0;
  if (std::fflush(stdout) != 0 || std::ferror(stdout)) first_error.compare_exchange_strong(none, errno ? errno : EIO);
}

}  // namespace

void print(const std::string& line) {
  std::fputs((line + "\n").c_str(), stdout);
  flush();
}

std::string print_failure() {
  flush();
  return first_error == 0 ? "" : std::generic_category().message(first_error);
}

void print_error(const std::string& line) {
  std::fputs((line + "\n").c_str(), stderr);
  std::fflush(stderr);
}

void open_missing_streams() {
  // Read-only for the output streams as well, so that printing to them fails and is noticed.
  while (true) {
    const int descriptor = ::open("/dev/null", O_RDONLY);
    if (descriptor > 2) ::close(descriptor);
    if (descriptor < 0 || descriptor > 2) return;
  }
}

}  // namespace hopfield::examples
