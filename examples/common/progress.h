#pragma once

#include <chrono>
#include <cstdint>
#include <mutex>
#include <string>

namespace hopfield::examples {

/// Seconds since it was made.
class Stopwatch {
 public:
  double seconds() const { return std::chrono::duration<double>(Clock::now() - begin_).count(); }

 private:
  using Clock = std::chrono::steady_clock;
  Clock::time_point begin_ = Clock::now();
};

/// A bar that fills on a terminal of any width, and nothing elsewhere; lines in between stay readable on both. Any
/// thread may call.
class Progress {
 public:
  /// @param unit  what is counted: "epochs"
  Progress(int64_t total, std::string unit, bool quiet);
  ~Progress();

  void advance(int64_t count = 1);
  /// A line on standard output, above the bar; nothing if quiet.
  void line(const std::string& text);
  /// A line on standard error, above the bar.
  void warn(const std::string& text);

 private:
  void draw();
  void erase();

  std::mutex mutex_;
  int64_t total_, done_ = 0;
  std::string unit_;
  bool quiet_, has_bar_;
  Stopwatch watch_;
  double drawn_at_ = 0;
};

/// "[####    ] 10/20 epochs 3 s left" in `columns` at most: the time, the bar and the unit go where they do not fit.
std::string progress_text(int64_t done, int64_t total, const std::string& unit, double seconds, int64_t columns);

}  // namespace hopfield::examples
