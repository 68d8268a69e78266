#include "progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>

namespace hopfield::mil {

Progress::Progress(int64_t total, bool quiet)
    : total_(total), quiet_(quiet), has_bar_(!quiet && isatty(STDERR_FILENO) == 1) {
  draw();
}

Progress::~Progress() { erase(); }

void Progress::advance() {
  const std::lock_guard<std::mutex> lock(mutex_);
  ++done_;
  draw();
}

void Progress::line(const std::string& text) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (quiet_) return;
  erase();
  fmt::print("{}\n", text);
  std::fflush(stdout);
  draw();
}

void Progress::draw() {
  if (!has_bar_) return;
  constexpr int64_t kWidth = 40;
  const auto filled = total_ > 0 ? done_ * kWidth / total_ : kWidth;
  const auto left =
      done_ > 0 ? fmt::format("{:.0f} s left", watch_.seconds() / done_ * (total_ - done_)) : std::string();
  fmt::print(stderr, "\r[{:<{}}] {}/{} epochs {}\033[K", std::string(filled, '#'), kWidth, done_, total_, left);
  std::fflush(stderr);
}

void Progress::erase() {
  if (!has_bar_) return;
  fmt::print(stderr, "\r\033[K");
  std::fflush(stderr);
}

}  // namespace hopfield::mil
