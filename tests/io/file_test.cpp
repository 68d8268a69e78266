#include "io/files.h"
#include "support/errors.h"
#include <hopfield/io/safetensors.h>

#include <dlfcn.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <filesystem>
#include <string>
#include <vector>

// Calls of the system that saving and loading make. This program's definitions come before the C library's, so that a
// test can let one of them fail.
namespace {

enum class Fault { none, error, interrupted, partial, end };

struct System {
  bool recording = false;
  std::vector<std::string> calls;
  size_t fail_at = 0;  ///< which of the calls fails, from 1; 0: none
  Fault fault = Fault::none;
  int code = EIO;
} simulated;

/// Records a call, and says what should happen to it.
Fault note(const char* name) {
  if (!simulated.recording) return Fault::none;
  simulated.calls.emplace_back(name);
  return simulated.calls.size() == simulated.fail_at ? simulated.fault : Fault::none;
}

int failed(Fault fault) {
  errno = fault == Fault::interrupted ? EINTR : simulated.code;
  return -1;
}

template <typename Function>
Function* real(const char* name) {
  return reinterpret_cast<Function*>(dlsym(RTLD_NEXT, name));
}

}  // namespace

extern "C" {

int open(const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const auto mode = (flags & O_CREAT) != 0 ? va_arg(arguments, mode_t) : mode_t{0};
  va_end(arguments);
  if (const auto fault = note("open"); fault != Fault::none) return failed(fault);
  return real<int(const char*, int, ...)>("open")(path, flags, mode);
}

ssize_t write(int descriptor, const void* source, size_t bytes) {
  const auto fault = note("write");
  if (fault == Fault::partial && bytes > 1) bytes /= 2;
  if (fault == Fault::error || fault == Fault::interrupted) return failed(fault);
  return real<ssize_t(int, const void*, size_t)>("write")(descriptor, source, bytes);
}

ssize_t read(int descriptor, void* target, size_t bytes) {
  const auto fault = note("read");
  if (fault == Fault::end) return 0;
  if (fault == Fault::partial && bytes > 1) bytes /= 2;
  if (fault == Fault::error || fault == Fault::interrupted) return failed(fault);
  return real<ssize_t(int, void*, size_t)>("read")(descriptor, target, bytes);
}

int fsync(int descriptor) {
  if (const auto fault = note("fsync"); fault != Fault::none) return failed(fault);
  return real<int(int)>("fsync")(descriptor);
}

int close(int descriptor) {
  const auto fault = note("close");
  const auto result = real<int(int)>("close")(descriptor);
  return fault == Fault::none ? result : failed(fault);
}

int rename(const char* from, const char* to) noexcept {
  if (const auto fault = note("rename"); fault != Fault::none) return failed(fault);
  return real<int(const char*, const char*)>("rename")(from, to);
}

}  // extern "C"

namespace {

using hopfield::io::load_safetensors;
using hopfield::io::save_safetensors;
using hopfield::testing::error_of;
using io_test::read_bytes;
using io_test::TemporaryFolder;
using testing::HasSubstr;

const hopfield::io::TensorDict& old_tensors() {
  static const hopfield::io::TensorDict tensors{{"a", at::ones({4})}};
  return tensors;
}

const hopfield::io::TensorDict& new_tensors() {
  static const hopfield::io::TensorDict tensors{{"a", at::zeros({64})}, {"b", at::ones({3}, at::kLong)}};
  return tensors;
}

/// Saves the new tensors while one call of the system fails. Returns the error's message.
std::string save_with_fault(const std::string& path, size_t fail_at, Fault fault, int code = EIO) {
  simulated = {true, {}, fail_at, fault, code};
  const auto message = error_of([&] { save_safetensors(path, new_tensors()); });
  simulated.recording = false;
  return message;
}

TEST(WriteAtomically, SyncsBeforeItRenamesAndTheFolderAfter) {
  const TemporaryFolder folder;
  EXPECT_EQ(save_with_fault(folder.file("f"), 0, Fault::none), "");
  EXPECT_EQ(simulated.calls, (std::vector<std::string>{"open", "open", "write", "write", "write", "write", "fsync",
                                                       "close", "rename", "fsync", "close"}));
}

TEST(WriteAtomically, AnyFailureLeavesTheOldFileOrTheNewOneAndNothingElse) {
  const TemporaryFolder folder;
  const auto path = folder.file("f");
  save_safetensors(path, new_tensors());
  const auto new_bytes = read_bytes(path);
  for (const int code : {EIO, ENOSPC, EACCES}) {
    for (size_t fail_at = 1;; ++fail_at) {
      save_safetensors(path, old_tensors());
      const auto old_bytes = read_bytes(path);
      const auto message = save_with_fault(path, fail_at, Fault::error, code);
      if (simulated.calls.size() < fail_at) break;
      const auto& failing = simulated.calls[fail_at - 1];
      const bool renamed = fail_at > 9;  // the last calls are rename, fsync and close of the folder
      EXPECT_EQ(read_bytes(path), renamed ? new_bytes : old_bytes) << failing << " " << fail_at;
      EXPECT_EQ(folder.size(), 1u) << failing << " " << fail_at;
      // The folder is only closed after all is done.
      if (fail_at == 11) continue;
      EXPECT_THAT(message, HasSubstr(std::generic_category().message(code))) << failing << " " << fail_at;
      EXPECT_THAT(message, HasSubstr("hopfield::io: cannot ")) << failing << " " << fail_at;
      EXPECT_THAT(message, HasSubstr(fail_at == 1 ? folder.file("").substr(0, folder.file("").size() - 1) : path))
          << failing << " " << fail_at;
    }
    EXPECT_EQ(simulated.calls.size(), 11u);
  }
}

TEST(WriteAtomically, ShortAndInterruptedCallsAreContinued) {
  const TemporaryFolder folder;
  const auto path = folder.file("f");
  save_safetensors(path, new_tensors());
  const auto expected = read_bytes(path);
  int tried = 0;
  for (const auto fault : {Fault::interrupted, Fault::partial}) {
    for (size_t fail_at = 1; fail_at <= 11; ++fail_at) {
      save_safetensors(path, old_tensors());
      save_with_fault(path, 0, Fault::none);
      const auto failing = simulated.calls[fail_at - 1];
      if (failing == "rename" || (fault == Fault::partial && failing != "write")) continue;
      EXPECT_EQ(save_with_fault(path, fail_at, fault), "") << failing << " " << fail_at;
      EXPECT_EQ(read_bytes(path), expected) << failing << " " << fail_at;
      EXPECT_EQ(folder.size(), 1u);
      ++tried;
    }
  }
  EXPECT_EQ(tried, 14);
}

TEST(WriteAtomically, AFolderThatCannotBeSyncedIsAccepted) {
  const TemporaryFolder folder;
  EXPECT_EQ(save_with_fault(folder.file("f"), 10, Fault::error, EINVAL), "");
  EXPECT_EQ(load_safetensors(folder.file("f")).tensors.size(), 2u);
}

TEST(WriteAtomically, PlacesWhereNoFileCanBe) {
  const TemporaryFolder folder;
  EXPECT_THAT(error_of([&] { save_safetensors(folder.file("absent/f"), old_tensors()); }),
              HasSubstr("No such file or directory"));
  EXPECT_THAT(error_of([&] { save_safetensors(folder.file(""), old_tensors()); }), HasSubstr("a folder or a device"));
  EXPECT_THAT(error_of([] { save_safetensors("/dev/full", old_tensors()); }), HasSubstr("a folder or a device"));
  EXPECT_TRUE(std::filesystem::is_character_file("/dev/full"));
  EXPECT_THAT(error_of([] { save_safetensors("", old_tensors()); }), HasSubstr("cannot replace ''"));
  EXPECT_THAT(error_of([&] { save_safetensors(folder.file(std::string(300, 'x')), old_tensors()); }),
              HasSubstr("File name too long"));
  io_test::write_bytes(folder.file("file"), "x");
  EXPECT_THAT(error_of([&] { save_safetensors(folder.file("file/f"), old_tensors()); }), HasSubstr("Not a directory"));
  EXPECT_EQ(folder.size(), 1u);
}

TEST(WriteAtomically, TheLongestNameALinkAndAForgottenTemporary) {
  const TemporaryFolder folder;
  const auto longest = folder.file(std::string(255, 'x'));
  save_safetensors(longest, old_tensors());
  EXPECT_EQ(load_safetensors(longest).tensors.size(), 1u);

  std::filesystem::create_symlink(longest, folder.file("link"));
  save_safetensors(folder.file("link"), new_tensors());
  EXPECT_TRUE(std::filesystem::is_symlink(folder.file("link")));
  EXPECT_EQ(load_safetensors(longest).tensors.size(), 2u);

  // The names of the next temporary files exist already, as if an earlier process had had the same number.
  const auto stem = folder.file("f") + "." + std::to_string(getpid()) + "-";
  for (int i = 0; i < 1000; ++i) io_test::write_bytes(stem + std::to_string(i) + ".tmp", "");
  save_safetensors(folder.file("f"), new_tensors());
  EXPECT_EQ(load_safetensors(folder.file("f")).tensors.size(), 2u);
  EXPECT_EQ(folder.size(), 1003u);
}

/// Loads while one call of the system fails. Returns the error's message.
std::string load_with_fault(const std::string& path, size_t fail_at, Fault fault) {
  simulated = {true, {}, fail_at, fault, EIO};
  const auto message = error_of([&] { EXPECT_EQ(load_safetensors(path).tensors.size(), 2u); });
  simulated.recording = false;
  return message;
}

TEST(InputFile, FailuresAreReportedAndShortReadsContinued) {
  const TemporaryFolder folder;
  const auto path = folder.file("f");
  save_safetensors(path, new_tensors());
  EXPECT_EQ(load_with_fault(path, 0, Fault::none), "");
  // The length, the header, two tensors.
  ASSERT_EQ(simulated.calls, (std::vector<std::string>{"open", "read", "read", "read", "read", "close"}));
  EXPECT_THAT(load_with_fault(path, 1, Fault::error), HasSubstr("cannot open '" + path + "': Input/output error"));
  for (size_t fail_at = 2; fail_at <= 5; ++fail_at) {
    EXPECT_THAT(load_with_fault(path, fail_at, Fault::error),
                HasSubstr("cannot read '" + path + "': Input/output error"));
    EXPECT_THAT(load_with_fault(path, fail_at, Fault::end), HasSubstr("more bytes in '" + path + "', got its end"));
    EXPECT_EQ(load_with_fault(path, fail_at, Fault::interrupted), "");
    EXPECT_EQ(load_with_fault(path, fail_at, Fault::partial), "");
  }
}

}  // namespace
