#pragma once

#include <gtest/gtest.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>

namespace hopfield::data {

/// A file with the given content, repeated as often as told. It is removed at the end of the scope.
class TemporaryFile {
 public:
  explicit TemporaryFile(const std::string& content, int repeats = 1) {
    const auto* test = ::testing::UnitTest::GetInstance()->current_test_info();
    auto name = std::string(test->test_suite_name()) + "." + test->name() + ".csv";
    for (auto& character : name) {
      if (character == '/') character = '.';
    }
    path_ = ::testing::TempDir() + "hopfield." + name;
    std::ofstream stream(path_, std::ios::binary);
    while (repeats-- > 0) stream << content;
  }
  ~TemporaryFile() { std::remove(path_.c_str()); }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;

  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace hopfield::data
