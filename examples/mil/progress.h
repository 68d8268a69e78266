#pragma once

#include <chrono>
#include <cstdint>
#include <mutex>
#include <string>

namespace hopfield::mil {

/// Seconds since it was made.
class Stopwatch {
 public:
  double seconds() const { return std::chrono::duration<double>(Clock::now() - begin_).count(); }

 private:
  using Clock = std::chrono::steady_clock;
  Clock::time_point begin_ = Clock::now();
};

/// A bar that fills on a terminal, and nothing elsewhere; lines in between stay readable on both. Any thread may call.
class Progress {
 public:
  Progress(int64_t total, bool quiet);
  ~Progress();

  void advance();
  /// A line on standard output, above the bar.
  void line(const std::string& text);

 private:
  void draw();
  void erase();

  std::mutex mutex_;
  int64_t total_, done_ = 0;
  bool quiet_, has_bar_;
  Stopwatch watch_;
};

}  // namespace hopfield::mil
