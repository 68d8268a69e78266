#include "kernels/bench/memory.h"

#include <ATen/Parallel.h>

#include <fmt/format.h>
#include <malloc.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <memory>
#include <stdexcept>

namespace hopfield::bench {
namespace {

/// The value of a line "name:  value kB" of /proc/self/status, in bytes.
int64_t resident_bytes(const std::string& name) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.rfind(name + ":", 0) == 0) return 1024 * std::stoll(line.substr(name.size() + 1));
  }
  throw std::runtime_error("expected " + name + " in /proc/self/status: memory is measured on Linux only");
}

/// Resets VmHWM, the peak of resident memory.
void reset_peak() {
  std::ofstream file("/proc/self/clear_refs");
  file << "5" << std::flush;
  if (!file) throw std::runtime_error("expected /proc/self/clear_refs to be writable");
}

Work work_of(const Case& which, const std::string& contender) {
  return contender == "sdpa" ? sdpa_work(which) : library_work(which);
}

}  // namespace

void print_extra_memory(const Case& which, const std::string& contender) {
  // A small call first, so that threads, code and tables of the libraries are not counted.
  work_of(small(which), contender).run();
  const auto work = work_of(which, contender);
  malloc_trim(0);  // otherwise the call could reuse memory that was freed but not returned, which would not be counted
  const auto before = resident_bytes("VmRSS");
  reset_peak();
  work.run();
  fmt::print("{} {}\n", resident_bytes("VmHWM") - before, work.input_bytes);
}

Memory extra_memory_elsewhere(const Case& which, const std::string& contender) {
  const auto program = std::filesystem::read_symlink("/proc/self/exe").string();
  const auto command = fmt::format("exec '{}' {} {} --threads {} {}", program, kMeasureMemoryOf, contender,
                                   at::get_num_threads(), which.name());
  const std::unique_ptr<FILE, int (*)(FILE*)> process(popen(command.c_str(), "r"), pclose);
  Memory memory{};
  if (process == nullptr || std::fscanf(process.get(), "%ld %ld", &memory.extra_bytes, &memory.input_bytes) != 2) {
    throw std::runtime_error("measuring the memory of " + contender + " in " + which.name() + " failed");
  }
  return memory;
}

}  // namespace hopfield::bench
