#pragma once

#include <functional>
#include <string>
#include <vector>

namespace hopfield::examples {

/// The path of a file and the option that names it. The path is empty if the option was not given.
struct NamedFile {
  std::string option, path;
};

/// Checks before a long run that its results can be written. Nothing is left behind.
/// @throws UsageError if an output is not a regular file, if no file can be created in its folder, or if it is the same
///         file as another output or an input
void check_outputs(const std::vector<NamedFile>& outputs, const std::vector<NamedFile>& inputs);

/// Writes result files one after the other. If one cannot be written, the others still are.
class OutputFiles {
 public:
  /// Calls `write` with the path, unless the path is empty.
  void write(const NamedFile& file, const std::function<void(const std::string& path)>& write);
  /// Adds a file that was written elsewhere.
  void add_written(const std::string& path) { written_.push_back(path); }
  /// Adds the error message of something that failed elsewhere, unless it is empty.
  void add_failure(const std::string& option, const std::string& failure);

  const std::vector<std::string>& written() const { return written_; }
  const std::vector<std::string>& failures() const { return failures_; }

 private:
  std::vector<std::string> written_, failures_;
};

}  // namespace hopfield::examples
