#include "gnuplot.h"

#include "text.h"

#include <c10/util/Exception.h>

#include <spawn.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <sstream>
#include <system_error>

namespace hopfield::examples {
namespace {

[[noreturn]] void fail(const char* what, int code) {
  TORCH_CHECK(false, "hopfield::examples::run_gnuplot: cannot ", what, ": ", std::generic_category().message(code));
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
    if (value == -1) fail("open a stream to gnuplot", errno);
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

/// A file in memory that receives what gnuplot prints. Unlike a pipe it takes any amount without being read.
Descriptor make_buffer() { return Descriptor(::memfd_create("gnuplot", MFD_CLOEXEC)); }

std::string content_of(const Descriptor& buffer) {
  std::string content;
  std::array<char, 1 << 16> block{};
  if (::lseek(buffer.value(), 0, SEEK_SET) == -1) fail("read what gnuplot printed", errno);
  for (;;) {
    const auto count = retry_if_interrupted([&] { return ::read(buffer.value(), block.data(), block.size()); });
    if (count == -1) fail("read what gnuplot printed", errno);
    if (count == 0) return content;
    content.append(block.data(), static_cast<size_t>(count));
  }
}

/// Starts gnuplot with these standard streams. Its process id, or nothing if it is not installed.
std::optional<pid_t> start(const Descriptor& input, const Descriptor& output, const Descriptor& errors) {
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, input.value(), STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&actions, output.value(), STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&actions, errors.value(), STDERR_FILENO);
  // A user's own settings, which could change the look, are not read.
  std::string program = "gnuplot", option = "--default-settings";
  std::array<char*, 3> arguments{program.data(), option.data(), nullptr};
  pid_t process = 0;
  const int code = ::posix_spawnp(&process, program.c_str(), &actions, nullptr, arguments.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (code == ENOENT || code == EACCES) return std::nullopt;
  if (code != 0) fail("start gnuplot", code);
  return process;
}

/// Sends as much of the script as gnuplot reads: after an error it ends early.
void send(const Descriptor& input, const std::string& script) {
  for (size_t sent = 0; sent < script.size();) {
    const auto count = retry_if_interrupted(
        [&] { return ::send(input.value(), script.data() + sent, script.size() - sent, MSG_NOSIGNAL); });
    if (count == -1) return;
    sent += static_cast<size_t>(count);
  }
}

/// The last line that gnuplot printed about an error. The lines before it repeat the script.
std::string message_in(const std::string& errors) {
  std::string message;
  std::istringstream lines(errors);
  for (std::string line; std::getline(lines, line);) {
    const auto begin = line.find_first_not_of(" \t\r^");
    if (begin != std::string::npos) message = line.substr(begin);
  }
  return shown(message);
}

}  // namespace

std::string gnuplot_text(const std::string& text, size_t most) {
  std::string result;
  for (const auto& line : break_lines(valid_utf8(text), most)) {
    result += result.empty() ? "'" : ".\"\\n\".'";
    for (const char letter : line) {
      // Between single quotes, two of them stand for one, and nothing else has a meaning.
      if (static_cast<unsigned char>(letter) >= ' ') result += letter == '\'' ? "''" : std::string(1, letter);
    }
    result += "'";
  }
  return result.empty() ? "''" : result;
}

std::optional<std::string> run_gnuplot(const std::string& script) {
  // Sockets and not a pipe, because writing to a pipe whose reader has ended would raise SIGPIPE.
  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) == -1) fail("open a stream to gnuplot", errno);
  Descriptor ours(ends[0]), theirs(ends[1]);
  const auto output = make_buffer(), errors = make_buffer();
  const auto process = start(theirs, output, errors);
  if (!process) return std::nullopt;
  theirs.close();
  send(ours, script);
  ours.close();
  int status = 0;
  if (retry_if_interrupted([&] { return ::waitpid(*process, &status, 0); }) == -1) fail("wait for gnuplot", errno);
  const auto message = message_in(content_of(errors));
  TORCH_CHECK(!WIFSIGNALED(status), "hopfield::examples::run_gnuplot: expected gnuplot to draw the chart, but signal ",
              WTERMSIG(status), " ended it");
  TORCH_CHECK(WEXITSTATUS(status) == 0, "hopfield::examples::run_gnuplot: expected gnuplot to draw the chart, but it ",
              "ended with code ", WEXITSTATUS(status), message.empty() ? " and no message" : ": ", message);
  auto result = content_of(output);
  TORCH_CHECK(!result.empty(), "hopfield::examples::run_gnuplot: expected gnuplot to draw the chart, but it printed ",
              "nothing", message.empty() ? "" : ": ", message);
  return result;
}

}  // namespace hopfield::examples
