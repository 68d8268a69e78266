#include "progress.h"

#include "console.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string_view>

namespace hopfield::examples {
namespace {

/// Whether standard error is a terminal that can move its cursor back and erase lines.
bool is_capable_terminal() {
  const char* kind = std::getenv("TERM");
  return isatty(STDERR_FILENO) == 1 && (kind == nullptr || std::string_view(kind) != "dumb");
}

int64_t columns_of_terminal() {
  winsize size{};
  const bool known = ::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
  return known ? size.ws_col : 80;
}

void print_unfinished(const std::string& text) {
  std::fputs(text.c_str(), stderr);
  std::fflush(stderr);
}

}  // namespace

std::string progress_text(int64_t done, int64_t total, const std::string& unit, double seconds, int64_t columns) {
  constexpr int64_t kLeastBar = 5, kMostBar = 40;
  const auto count = fmt::format("{}/{}", done, total);
  const auto left = done == 0 ? "" : fmt::format(" {:.0f} s left", seconds / done * (total - done));
  for (const auto& text : {count + " " + unit + left, count + " " + unit, count}) {
    const auto room = columns - static_cast<int64_t>(text.size()) - 3;  // two brackets and a blank
    if (room < kLeastBar) continue;
    const auto width = std::min(room, kMostBar);
    const auto filled = total > 0 ? std::min(done, total) * width / total : width;
    return fmt::format("[{:<{}}] {}", std::string(filled, '#'), width, text);
  }
  return count.substr(0, std::max<int64_t>(columns, 0));
}

Progress::Progress(int64_t total, std::string unit, bool quiet)
    : total_(total), unit_(std::move(unit)), quiet_(quiet), has_bar_(!quiet && is_capable_terminal()) {
  draw();
}

Progress::~Progress() { erase(); }

void Progress::advance(int64_t count) {
  constexpr double kSecondsBetweenDrawings = 0.05;
  const std::lock_guard<std::mutex> lock(mutex_);
  done_ += count;
  if (done_ < total_ && watch_.seconds() - drawn_at_ < kSecondsBetweenDrawings) return;
  draw();
}

void Progress::line(const std::string& text) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (quiet_) return;
  erase();
  print(text);
  draw();
}

void Progress::warn(const std::string& text) {
  const std::lock_guard<std::mutex> lock(mutex_);
  erase();
  print_error(text);
  draw();
}

void Progress::draw() {
  if (!has_bar_) return;
  drawn_at_ = watch_.seconds();
  // The last column stays free, because some terminals begin a new line when it is filled.
  print_unfinished("\r" + progress_text(done_, total_, unit_, drawn_at_, columns_of_terminal() - 1) + "\033[K");
}

void Progress::erase() {
  if (has_bar_) print_unfinished("\r\033[K");
}

}  // namespace hopfield::examples
