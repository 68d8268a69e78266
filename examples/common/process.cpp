#include "process.h"

#include <c10/util/Exception.h>

#include <spawn.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <system_error>

namespace hopfield::examples {
namespace {

[[noreturn]] void fail(const char* what, int code) {
  TORCH_CHECK(false, "hopfield::examples::run_process: cannot ", what, ": ", std::generic_category().message(code));
}

template <typename Call>
auto retry_if_interrupted(const Call& call) {
  auto result = call();
  while (result == -1 && errno == EINTR) result = call();
  return result;
}

/// Owns a file descriptor, which programs that are started do not inherit.
class Descriptor {
 public:
  explicit Descriptor(int value) : value_(value) {
    if (value == -1) fail("open a stream to a program", errno);
  }
  Descriptor(Descriptor&& other) noexcept : value_(other.value_) { other.value_ = -1; }
  ~Descriptor() { close(); }

  int value() const { return value_; }
  void close() {
    if (value_ != -1) ::close(value_);
    value_ = -1;
  }

 private:
  int value_;
};

/// A file in memory that receives what a program prints. Unlike a pipe it takes any amount without being read.
Descriptor make_buffer() { return Descriptor(::memfd_create("output", MFD_CLOEXEC)); }

std::string content_of(const Descriptor& buffer) {
  std::string content;
  std::array<char, 1 << 16> block{};
  if (::lseek(buffer.value(), 0, SEEK_SET) == -1) fail("read what a program printed", errno);
  for (;;) {
    const auto count = retry_if_interrupted([&] { return ::read(buffer.value(), block.data(), block.size()); });
    if (count == -1) fail("read what a program printed", errno);
    if (count == 0) return content;
    content.append(block.data(), static_cast<size_t>(count));
  }
}

/// Starts a program with these standard streams. Its process id, or nothing if there is none.
std::optional<pid_t> start(std::vector<std::string>& arguments, const Descriptor& input, const Descriptor& output,
                           const Descriptor& errors) {
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, input.value(), STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&actions, output.value(), STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&actions, errors.value(), STDERR_FILENO);
  std::vector<char*> pointers;
  for (auto& argument : arguments) pointers.push_back(argument.data());
  pointers.push_back(nullptr);
  pid_t process = 0;
  const int code = ::posix_spawnp(&process, pointers.front(), &actions, nullptr, pointers.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (code == ENOENT || code == EACCES) return std::nullopt;
  if (code != 0) fail("start a program", code);
  return process;
}

/// Sends as much of the text as the program reads: after an error it may end early.
void send(const Descriptor& input, const std::string& text) {
  for (size_t sent = 0; sent < text.size();) {
    const auto count = retry_if_interrupted(
        [&] { return ::send(input.value(), text.data() + sent, text.size() - sent, MSG_NOSIGNAL); });
    if (count == -1) return;
    sent += static_cast<size_t>(count);
  }
}

}  // namespace

std::optional<ProcessResult> run_process(std::vector<std::string> arguments, const std::string& input) {
  // Sockets and not a pipe, because writing to a pipe whose reader has ended would raise SIGPIPE.
  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) == -1)
    fail("open a stream to a program", errno);
  Descriptor ours(ends[0]), theirs(ends[1]);
  const auto output = make_buffer(), errors = make_buffer();
  const auto process = start(arguments, theirs, output, errors);
  if (!process) return std::nullopt;
  theirs.close();
  send(ours, input);
  ours.close();
  int status = 0;
  if (retry_if_interrupted([&] { return ::waitpid(*process, &status, 0); }) == -1) fail("wait for a program", errno);
  ProcessResult result;
  result.signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
  result.code = WIFEXITED(status) ? WEXITSTATUS(status) : 0;
  result.output = content_of(output);
  result.errors = content_of(errors);
  return result;
}

}  // namespace hopfield::examples
