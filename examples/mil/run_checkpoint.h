#pragma once

#include "progress.h"
#include <hopfield/hopfield.h>

#include <cstdint>
#include <map>
#include <mutex>
#include <string>

namespace hopfield::mil {

/// The state of a whole cross-validation in one safetensors file: what each fold needs to go on, or its scores.
class RunCheckpoint {
 public:
  /// @param path         empty: nothing is ever written
  /// @param description  what makes this run what it is: a checkpoint of another description is refused
  RunCheckpoint(std::string path, std::string description)
      : path_(std::move(path)), description_(std::move(description)) {}

  /// Reads the file. @throws UsageError if it is not a checkpoint of this run.
  void load();
  /// What was kept of a fold, or nothing.
  const io::SafetensorsFile* find(int64_t fold) const;

  /// Keeps a fold's newest state, and writes the file if it has not been for some seconds. Any thread may call.
  void update(int64_t fold, io::SafetensorsFile state);
  void write();
  bool enabled() const { return !path_.empty(); }
  const std::string& path() const { return path_; }

 private:
  void write_locked();

  std::string path_, description_;
  std::map<int64_t, io::SafetensorsFile> folds_;
  std::mutex mutex_;
  Stopwatch since_write_;
  double written_at_ = 0;
};

}  // namespace hopfield::mil
