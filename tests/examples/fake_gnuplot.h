#pragma once

#include "temporary_folder.h"

#include <sys/stat.h>

#include <cstdlib>
#include <string>

namespace hopfield::examples {

/// While it exists, the PATH has no other program than a gnuplot that is this script for the shell, or none at all if
/// the script is empty.
class FakeGnuplot {
 public:
  explicit FakeGnuplot(const std::string& script) : path_(std::getenv("PATH")) {
    if (!script.empty()) ::chmod(folder_.write("gnuplot", "#!/bin/sh\n" + script).c_str(), 0700);
    ::setenv("PATH", folder_.path().c_str(), 1);
  }
  ~FakeGnuplot() { ::setenv("PATH", path_.c_str(), 1); }

 private:
  TemporaryFolder folder_;
  std::string path_;
};

}  // namespace hopfield::examples
