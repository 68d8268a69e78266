#include "io/file.h"

#include <hopfield/io/file.h>

#include <c10/util/Exception.h>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <system_error>

namespace hopfield::io::detail {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void fail(const char* what, const std::string& path, int code) {
  TORCH_CHECK(false, "hopfield::io: cannot ", what, " '", path, "': ", std::generic_category().message(code));
}

template <typename Call>
auto retry_if_interrupted(const Call& call) {
  auto result = call();
  while (result == -1 && errno == EINTR) result = call();
  return result;
}

int open_for_reading(const std::string& path, int flags = 0) {
  const auto descriptor = retry_if_interrupted([&] { return ::open(path.c_str(), O_RDONLY | O_CLOEXEC | flags); });
  if (descriptor == -1) fail("open", path, errno);
  return descriptor;
}

fs::path folder_of(const fs::path& path) { return path.has_parent_path() ? path.parent_path() : fs::path("."); }

/// The regular file that a path leads to, with links followed: renaming onto a link would replace the link. Devices are
/// refused for the same reason.
fs::path resolve_target(const std::string& path) {
  std::error_code error;
  const auto status = fs::status(path, error);
  if (!fs::exists(status)) return path;
  TORCH_CHECK(fs::is_regular_file(status), "hopfield::io: expected '", path,
              "' to be a regular file or not to exist, got a folder or a device");
  const auto resolved = fs::canonical(path, error);
  if (error) fail("resolve", path, error.value());
  return resolved;
}

/// A name in the target's folder that no other process or thread uses. Long names of targets are cut.
fs::path temporary_name(const fs::path& target) {
  static std::atomic<uint64_t> count{0};
  const auto name = target.filename().string().substr(0, 200);
  return folder_of(target) / (name + "." + std::to_string(::getpid()) + "-" + std::to_string(count++) + ".tmp");
}

int create_temporary(const fs::path& target, fs::path& temporary) {
  for (;;) {
    temporary = temporary_name(target);
    const auto flags = O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC;
    const auto descriptor = retry_if_interrupted([&] { return ::open(temporary.c_str(), flags, 0666); });
    if (descriptor != -1) return descriptor;
    // EEXIST: a killed process that had the same process id has left a file of this name. Try the next name.
    if (errno != EEXIST) fail("create a temporary file for", target.string(), errno);
  }
}

}  // namespace

Descriptor::~Descriptor() { close(); }

bool Descriptor::close() {
  if (value_ == -1) return true;
  // Not repeated if interrupted: Linux has released the descriptor by then.
  const auto result = ::close(value_);
  value_ = -1;
  return result == 0 || errno == EINTR;
}

// O_NONBLOCK, because opening a named pipe would wait for a writer otherwise.
InputFile::InputFile(const std::string& path) : path_(path), descriptor_(open_for_reading(path, O_NONBLOCK)) {
  struct stat status {};
  if (::fstat(descriptor_.value(), &status) == -1) fail("inspect", path_, errno);
  TORCH_CHECK(S_ISREG(status.st_mode), "hopfield::io: expected '", path_,
              "' to be a regular file, got a folder or a device");
  size_ = static_cast<uint64_t>(status.st_size);
}

void InputFile::read(void* target, uint64_t bytes) {
  auto* next = static_cast<char*>(target);
  while (bytes > 0) {
    const auto count = retry_if_interrupted([&] { return ::read(descriptor_.value(), next, bytes); });
    if (count == -1) fail("read", path_, errno);
    TORCH_CHECK(count > 0, "hopfield::io: expected ", bytes, " more bytes in '", path_,
                "', got its end; it became shorter while it was read");
    next += count;
    bytes -= static_cast<uint64_t>(count);
  }
}

OutputFile::OutputFile(fs::path target)
    : target_(std::move(target)),
      folder_(open_for_reading(folder_of(target_).string(), O_DIRECTORY)),
      descriptor_(create_temporary(target_, temporary_)) {}

OutputFile::~OutputFile() {
  if (!in_place_) ::unlink(temporary_.c_str());
}

void OutputFile::write(const void* source, uint64_t bytes) {
  const auto* next = static_cast<const char*>(source);
  while (bytes > 0) {
    const auto count = retry_if_interrupted([&] { return ::write(descriptor_.value(), next, bytes); });
    if (count == -1) fail("write", target_.string(), errno);
    next += count;
    bytes -= static_cast<uint64_t>(count);
  }
}

void OutputFile::replace_target() {
  const auto sync = [](const Descriptor& descriptor) {
    return retry_if_interrupted([&] { return ::fsync(descriptor.value()); }) == 0;
  };
  if (!sync(descriptor_)) fail("sync", target_.string(), errno);
  if (!descriptor_.close()) fail("close", target_.string(), errno);
  if (::rename(temporary_.c_str(), target_.c_str()) == -1) fail("replace", target_.string(), errno);
  in_place_ = true;
  // File systems that cannot sync a folder return EINVAL.
  if (!sync(folder_) && errno != EINVAL) fail("sync the folder of the completely written", target_.string(), errno);
}

void write_atomically(const std::string& path, const std::function<void(OutputFile&)>& write_content) {
  OutputFile file(resolve_target(path));
  write_content(file);
  file.replace_target();
}

}  // namespace hopfield::io::detail

namespace hopfield::io {

void write_file(const std::string& path, const std::string& content) {
  detail::write_atomically(path, [&](detail::OutputFile& file) { file.write(content.data(), content.size()); });
}

}  // namespace hopfield::io
