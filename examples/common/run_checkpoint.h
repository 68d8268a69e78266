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

/// The values of the options --checkpoint, --resume and --overwrite.
struct CheckpointOptions {
  std::string path;  ///< if empty, nothing is written
  bool resume = false, overwrite = false;
};

/// Adds the options --checkpoint, --resume and --overwrite.
void add_checkpoint_options(CLI::App& app, CheckpointOptions& options);

/// Keeps the state of a whole run in one safetensors file. A run has numbered parts, such as the folds of a
/// cross-validation, and the state of each part is what it needs to go on. A digest of the whole content shows damage,
/// and a lock keeps other processes from the file.
class RunCheckpoint {
 public:
  /// Locks the file for this process.
  /// @throws UsageError if another process uses the file, if it exists and neither --resume nor --overwrite is given,
  /// or
  ///         if the options contradict each other
  RunCheckpoint(std::string program, CheckpointOptions options);

  /// With --resume, reads the file. Call it before the functions below.
  /// @param description  identifies the run: a JSON object with its options, by which users recognise them
  /// @throws UsageError if the file is not a complete checkpoint of this run; the message says which options differ
  void begin(const std::string& description);
  /// The state of a part, or nullptr if there is none. It is valid until the next update() of that part. Any thread may
  /// call.
  const io::SafetensorsFile* find(int64_t part);

  /// Keeps the newest state of a part, and writes the file if the last write was some seconds ago. The first write
  /// comes after two seconds, or earlier if a part is finished. A write that fails is tried again in a later call. Any
  /// thread may call.
  /// @return the error message of a failed write, unless the write before failed with the same; otherwise empty
  std::string update(int64_t part, io::SafetensorsFile state, bool is_finished);
  /// Writes the file. @return the error message if that fails, or an empty string
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
