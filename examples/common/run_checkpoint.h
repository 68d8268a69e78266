#pragma once

#include "file_lock.h"
#include "progress.h"
#include <hopfield/io/safetensors.h>

#include <CLI/CLI.hpp>

#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <string>

namespace hopfield::examples {

struct CheckpointOptions {
  std::string path;  ///< empty: nothing is ever written
  bool resume = false, overwrite = false;
};

/// --checkpoint, --resume and --overwrite.
void add_checkpoint_options(CLI::App& app, CheckpointOptions& options);

/// The state of a whole run in one safetensors file: a run has numbered parts, such as the folds of a cross-validation,
/// and each keeps what it needs to go on. A digest over everything finds damage; a lock keeps other processes away.
class RunCheckpoint {
 public:
  /// Takes the file for this process. @throws UsageError if another one uses it, if it should be replaced only when
  /// that is said, or if the options contradict each other.
  RunCheckpoint(std::string program, CheckpointOptions options);

  /// Must come before anything below. With --resume, reads the file.
  /// @param description  what makes this run what it is: a JSON object in which users find their options
  /// @throws UsageError if it is not a whole checkpoint of this run; what differs is said.
  void begin(const std::string& description);
  /// What was kept of a part, or nothing. It stays until that part's next update(). Any thread may call.
  const io::SafetensorsFile* find(int64_t part);

  /// Keeps a part's newest state, and writes the file if it is time: soon at first, and then every few seconds. Any
  /// thread may call. A file that cannot be written is no reason to end the run: it is tried again.
  /// @return what went wrong, when it is news
  std::string update(int64_t part, io::SafetensorsFile state, bool is_finished);
  /// Writes the file. @return what went wrong, or nothing
  std::string write();

  bool enabled() const { return !options_.path.empty(); }
  const std::string& path() const { return options_.path; }

 private:
  void load();
  std::string write_locked();

  std::string program_, description_;
  CheckpointOptions options_;
  std::optional<FileLock> file_lock_;
  std::map<int64_t, io::SafetensorsFile> parts_;
  std::mutex mutex_;
  Stopwatch watch_;
  std::optional<double> tried_at_;
  std::string failure_;
};

}  // namespace hopfield::examples
