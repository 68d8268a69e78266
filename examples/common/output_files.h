#pragma once

#include <functional>
#include <string>
#include <vector>

namespace hopfield::examples {

/// A file with the option that named it; an empty path was not given.
struct NamedFile {
  std::string option, path;
};

/// Results should not be lost after the work because they cannot be written: refuses outputs that are no regular files,
/// whose folder takes no file, or that are another output or an input. Nothing is left behind. @throws UsageError
void check_outputs(const std::vector<NamedFile>& outputs, const std::vector<NamedFile>& inputs);

/// Writes results one after the other. One that fails does not keep the others from being written.
class OutputFiles {
 public:
  /// Calls `write` with the path, unless that is empty.
  void write(const NamedFile& file, const std::function<void(const std::string& path)>& write);
  /// Adds a failure that came up elsewhere, unless it is empty.
  void add_failure(const std::string& option, const std::string& failure);

  const std::vector<std::string>& written() const { return written_; }
  const std::vector<std::string>& failures() const { return failures_; }

 private:
  std::vector<std::string> written_, failures_;
};

}  // namespace hopfield::examples
