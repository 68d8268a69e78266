#pragma once

#include <chrono>
#include <cstdint>
#include <mutex>
#include <string>

namespace hopfield::examples {

/// Measures the seconds since its construction.
class Stopwatch {
 public:
  double seconds() const { return std::chrono::duration<double>(Clock::now() - begin_).count(); }

 private:
  using Clock = std::chrono::steady_clock;
  Clock::time_point begin_ = Clock::now();
};

/// A progress bar on standard error, if that is a terminal. Lines printed by line() and warn() stay readable above it.
/// Any thread may call.
class Progress {
 public:
  /// @param unit  what is counted: "epochs"
  Progress(int64_t total, std::string unit, bool quiet);
  ~Progress();

  void advance(int64_t count = 1);
  /// Prints a line on standard output, above the bar; nothing if quiet.
  void line(const std::string& text);
  /// Prints a line on standard error, above the bar.
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

/// "[####    ] 10/20 epochs 3 s left" in at most `columns` columns. Where that is too long, the remaining time is left
/// out, then the unit, then the bar.
std::string progress_text(int64_t done, int64_t total, const std::string& unit, double seconds, int64_t columns);

}  // namespace hopfield::examples
