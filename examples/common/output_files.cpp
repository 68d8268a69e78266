#include "output_files.h"

#include "errors.h"
#include "text.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <system_error>

namespace hopfield::examples {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void refuse(const NamedFile& file, const std::string& expected, const std::string& got) {
  throw UsageError{file.option + ": expected " + expected + ", got " + quote(file.path) + got};
}

std::string system_message(int code) { return std::generic_category().message(code); }

/// The path to which a file is written: absolute, with links followed and without "..".
fs::path place_of(const std::string& path) {
  std::error_code error;
  const auto place = fs::weakly_canonical(fs::absolute(path), error);
  return error ? fs::path(path) : place;
}

bool is_same_file(const std::string& a, const std::string& b) {
  std::error_code error;
  return place_of(a) == place_of(b) || fs::equivalent(a, b, error);
}

/// Checks that files can be created in a folder. Results are written under another name first and then renamed, so it
/// is not enough that the file itself can be written.
void check_folder(const NamedFile& file, const fs::path& folder) {
  std::error_code error;
  if (!fs::is_directory(folder, error)) refuse(file, "a file in an existing folder", "; make the folder first");
  auto name = (folder / ".hopfield-XXXXXX").string();
  const int descriptor = ::mkostemp(name.data(), O_CLOEXEC);
  if (descriptor == -1) refuse(file, "a file in a folder that can be written to", ": " + system_message(errno));
  ::close(descriptor);
  ::unlink(name.c_str());
}

void check_output(const NamedFile& file) {
  std::error_code error;
  const auto status = fs::status(file.path, error);
  if (status.type() == fs::file_type::none) refuse(file, "a file that can be made", ": " + error.message());
  if (fs::is_directory(status) || fs::path(file.path).filename().empty()) refuse(file, "a file", ", which is a folder");
  if (fs::exists(status) && !fs::is_regular_file(status)) {
    refuse(file, "a regular file", ", which is a device, a pipe or a socket");
  }
  if (!fs::exists(status) && fs::is_symlink(fs::symlink_status(file.path, error))) {
    refuse(file, "a file", ", which is a link to a file that is missing");
  }
  if (fs::exists(status) && ::access(file.path.c_str(), W_OK) != 0) {
    refuse(file, "a file that can be written", ": " + system_message(errno));
  }
  check_folder(file, place_of(file.path).parent_path());
}

}  // namespace

void check_outputs(const std::vector<NamedFile>& outputs, const std::vector<NamedFile>& inputs) {
  for (size_t i = 0; i < outputs.size(); ++i) {
    if (outputs[i].path.empty()) continue;
    check_output(outputs[i]);
    for (const auto& input : inputs) {
      if (!input.path.empty() && is_same_file(outputs[i].path, input.path)) {
        refuse(outputs[i], "another file than the input of " + input.option, "");
      }
    }
    for (size_t k = 0; k < i; ++k) {
      if (!outputs[k].path.empty() && is_same_file(outputs[i].path, outputs[k].path)) {
        refuse(outputs[i], "another file than that of " + outputs[k].option, "");
      }
    }
  }
}

void OutputFiles::write(const NamedFile& file, const std::function<void(const std::string& path)>& write) {
  if (file.path.empty()) return;
  try {
    write(file.path);
    written_.push_back(file.path);
  } catch (const std::exception& error) {
    add_failure(file.option, plain_message(error));
  }
}

void OutputFiles::add_failure(const std::string& option, const std::string& failure) {
  if (!failure.empty()) failures_.push_back(option + ": " + failure);
}

}  // namespace hopfield::examples
