// hopfield_parity DIR: replays every golden case (*.pt) of a folder in float64 and prints, for each, the largest
// absolute error of output, association matrix, projected patterns and every gradient. Last line: "N passed, N failed".
// Exit code 0: all passed, 1: some failed, 2: wrong call.

#include "golden_case.h"

#include <fmt/format.h>

#include <algorithm>
#include <exception>

namespace {

constexpr double kTolerance = 1e-10;

/// Replays a case and prints its errors. Returns whether it agrees.
bool run_case(const std::filesystem::path& file) {
  try {
    const auto golden = hopfield::parity::read_golden_case(file);
    const auto errors = hopfield::parity::replay(golden);
    double worst = 0;
    for (const auto& [quantity, error] : errors) worst = std::max(worst, error);
    const bool agrees = worst <= kTolerance;
    fmt::print("{} {}: largest error {:.1e}\n", agrees ? "ok  " : "FAIL", golden.name, worst);
    for (const auto& [quantity, error] : errors) {
      fmt::print("       {:<55} {:.1e}{}\n", quantity, error, error <= kTolerance ? "" : "  <--");
    }
    return agrees;
  } catch (const c10::Error& error) {
    fmt::print("FAIL {}: {}\n", file.filename().string(), error.what_without_backtrace());
  } catch (const std::exception& error) {
    fmt::print("FAIL {}: {}\n", file.filename().string(), error.what());
  }
  return false;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    fmt::print(stderr, "usage: hopfield_parity DIR\nReplays the golden cases DIR/*.pt and compares to {:.0e}.\n",
               kTolerance);
    return 2;
  }
  std::error_code error;
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(argv[1], error)) {
    if (entry.path().extension() == ".pt") files.push_back(entry.path());
  }
  if (error || files.empty()) {
    fmt::print(stderr, "hopfield_parity: expected a folder with golden cases (*.pt), got {}{}\n", argv[1],
               error ? ": " + error.message() : ", which has none");
    return 2;
  }
  std::sort(files.begin(), files.end());
  const auto passed = std::count_if(files.begin(), files.end(), run_case);
  const auto failed = static_cast<std::ptrdiff_t>(files.size()) - passed;
  fmt::print("{} passed, {} failed\n", passed, failed);
  return failed == 0 ? 0 : 1;
}
