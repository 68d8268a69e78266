#include "io/files.h"
#include "support/errors.h"
#include <hopfield/io/safetensors.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <random>
#include <string>
#include <vector>

namespace {

using hopfield::io::load_safetensors;
using hopfield::testing::error_of;
using io_test::length_bytes;
using io_test::safetensors_bytes;
using io_test::TemporaryFolder;
using testing::HasSubstr;

/// One lie of a file, and what the error must say about it.
struct Malformed {
  std::string bytes;
  std::string reason;
};

std::string entry(const std::string& dtype, const std::string& shape, const std::string& offsets) {
  return R"({"dtype":)" + dtype + R"(,"shape":)" + shape + R"(,"data_offsets":)" + offsets + "}";
}

/// A file with one tensor "a" described so, and 8 bytes of data.
std::string one(const std::string& dtype, const std::string& shape, const std::string& offsets) {
  return safetensors_bytes(R"({"a":)" + entry(dtype, shape, offsets) + "}", 8);
}

std::string two(const std::string& offsets_a, const std::string& offsets_b, size_t data_bytes) {
  return safetensors_bytes(
      R"({"a":)" + entry(R"("F32")", "[1]", offsets_a) + R"(,"b":)" + entry(R"("F32")", "[1]", offsets_b) + "}",
      data_bytes);
}

const std::string kValidEntry = entry(R"("F32")", "[2]", "[0,8]");
const std::string kValidHeader = R"({"__metadata__":{"k":"v"},"a":)" + kValidEntry + R"(,"b":)" +
                                 entry(R"("U8")", "[2,2]", "[8,12]") + R"(,"c":)" +
                                 entry(R"("BOOL")", "[]", "[12,13]") + "}";
const std::string kValidFile = safetensors_bytes(kValidHeader, 13);

std::string repeat(const std::string& text, size_t times) {
  std::string result;
  for (size_t i = 0; i < times; ++i) result += text;
  return result;
}

std::string header_with(const std::string& rest) { return R"({"a":)" + kValidEntry + rest + "}"; }

const std::vector<Malformed>& corpus() {
  static const std::vector<Malformed> files{
      // The length of the header.
      {"", "at least 8 bytes, got 0"},
      {"abc", "at least 8 bytes, got 3"},
      {length_bytes(0), "begin with '{', got no header"},
      {length_bytes(2), "a header of 2 bytes, got 0 bytes up to the end"},
      {length_bytes(100) + "{}", "a header of 100 bytes, got 2 bytes"},
      {length_bytes(100'000'001) + "{}", "at most 100000000 bytes, got 100000001"},
      {length_bytes(~uint64_t{0}) + "{}", "got 18446744073709551615"},
      {length_bytes(uint64_t{1} << 63) + "{}", "got 9223372036854775808"},
      {"PK\3\4" + std::string(100, 'x'), "not a safetensors file"},
      {length_bytes(kValidHeader.size() - 1) + kValidHeader + std::string(13, '\1'), "valid JSON"},
      {length_bytes(kValidHeader.size() + 1) + kValidHeader + std::string(13, '\1'), "valid JSON"},
      // The text of the header.
      {safetensors_bytes("[]", 0), "begin with '{', got byte 91"},
      {safetensors_bytes(" {}", 0), "begin with '{', got byte 32"},
      {safetensors_bytes("\xEF\xBB\xBF{}", 0), "begin with '{', got byte 239"},
      {safetensors_bytes("null", 0), "begin with '{'"},
      {safetensors_bytes("{", 0), "error at byte 9"},
      {safetensors_bytes("{}}", 0), "error at byte 10"},
      {safetensors_bytes("{} {}", 0), "valid JSON"},
      {safetensors_bytes("{}x", 0), "valid JSON"},
      {safetensors_bytes(std::string("{}\0", 3), 0), "NUL at byte 10"},
      {safetensors_bytes(std::string("{}\0garbage", 10), 0), "NUL at byte 10"},
      {safetensors_bytes(header_with(","), 8), "valid JSON"},
      {safetensors_bytes("{'a':1}", 0), "valid JSON"},
      {safetensors_bytes("{/* comment */}", 0), "valid JSON"},
      {safetensors_bytes("{\"a\xFF\":" + kValidEntry + "}", 8), "valid JSON"},
      {safetensors_bytes("{\"\xC0\xAF\":" + kValidEntry + "}", 8), "valid JSON"},
      {safetensors_bytes("{\"\xED\xA0\x80\":" + kValidEntry + "}", 8), "valid JSON"},
      {safetensors_bytes(R"({"\ud800":)" + kValidEntry + "}", 8), "valid JSON"},
      {safetensors_bytes("{\"a\n\":" + kValidEntry + "}", 8), "valid JSON"},
      {safetensors_bytes(R"({"a)", 0), "valid JSON"},
      // The structure of the header.
      {safetensors_bytes(R"({"a":1})", 0), "'a' to be an object with dtype, shape and data_offsets, got 1"},
      {safetensors_bytes(R"({"a":null})", 0), "got null"},
      {safetensors_bytes(R"({"a\n\u001b[2J\u007f":null})", 0), "'a??[2J?' to be an object"},
      {safetensors_bytes(R"({"a":true})", 0), "got true"},
      {safetensors_bytes(R"({"a":"F32"})", 0), "got the string 'F32'"},
      {safetensors_bytes(R"({"a":["F32",[2],[0,8]]})", 8), "got an array"},
      {safetensors_bytes(R"({"a":{}})", 0),
       "tensor 'a' to have the fields dtype, shape and data_offsets, got no dtype"},
      {safetensors_bytes(R"({"a":{"dtype":"F32","shape":[2]}})", 8), "got no data_offsets"},
      {safetensors_bytes(R"({"a":{"dtype":"F32","data_offsets":[0,8]}})", 8), "got no shape"},
      {safetensors_bytes(R"({"a":{"shape":[2],"data_offsets":[0,8]}})", 8), "got no dtype"},
      {safetensors_bytes(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8],"strides":[1]}})", 8),
       "got 'strides'"},
      {safetensors_bytes(R"({"a":{"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]}})", 8),
       "to have one dtype"},
      {safetensors_bytes(R"({"a":{"dtype":"F32","shape":[1],"shape":[2],"data_offsets":[0,8]}})", 8),
       "to have one shape"},
      {safetensors_bytes(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4],"data_offsets":[0,8]}})", 8),
       "to have one data_offsets"},
      {safetensors_bytes(header_with(R"(,"a":)" + kValidEntry), 8), "every name once, got 'a' twice"},
      {safetensors_bytes(header_with(R"(,"\u0061":)" + kValidEntry), 8), "every name once, got 'a' twice"},
      {safetensors_bytes(repeat(R"({"a":)", 100'000) + "1" + repeat("}", 100'000), 0), "tensor 'a' to have the fields"},
      {safetensors_bytes(R"({"a":)" + repeat("[", 1'000'000), 0), "got an array"},
      {safetensors_bytes(R"({"a":{"dtype":"F32","shape":)" + repeat("[", 1'000'000), 0), "got an array"},
      // Metadata.
      {safetensors_bytes(R"({"__metadata__":null})", 0), "'__metadata__' to be an object of strings, got null"},
      {safetensors_bytes(R"({"__metadata__":[]})", 0), "'__metadata__' to be an object of strings, got an array"},
      {safetensors_bytes(R"({"__metadata__":"x"})", 0), "got the string 'x'"},
      {safetensors_bytes(R"({"__metadata__":{"k":1}})", 0), "'k' of __metadata__ to be a string, got 1"},
      {safetensors_bytes(R"({"__metadata__":{"k":{"deep":"v"}}})", 0), "to be a string, got an object"},
      {safetensors_bytes(R"({"__metadata__":{"k":["v"]}})", 0), "to be a string, got an array"},
      {safetensors_bytes(R"({"__metadata__":{"k":null}})", 0), "to be a string, got null"},
      {safetensors_bytes(R"({"__metadata__":{"k":"v","k":"v"}})", 0), "every key of __metadata__ once, got 'k' twice"},
      {safetensors_bytes(R"({"__metadata__":{},"__metadata__":{}})", 0), "got '__metadata__' twice"},
      {safetensors_bytes(R"({"__metadata__":)" + kValidEntry + "}", 8), "'shape' of __metadata__ to be a string"},
      // Types.
      {one(R"("F33")", "[2]", "[0,8]"), "to be one of BOOL U8 I8"},
      {one(R"("f32")", "[2]", "[0,8]"), "got 'f32'"},
      {one(R"("")", "[2]", "[0,8]"), "got ''"},
      {one(R"("F32 ")", "[2]", "[0,8]"), "got 'F32 '"},
      {one(R"("F4")", "[16]", "[0,8]"), "got 'F4'"},
      {one('"' + std::string(100'000, 'x') + '"', "[2]", "[0,8]"), "...' (100000 bytes)"},
      {one("32", "[2]", "[0,8]"), "dtype of tensor 'a' to be a string, got 32"},
      {one("null", "[2]", "[0,8]"), "dtype of tensor 'a' to be a string, got null"},
      {one(R"(["F32"])", "[2]", "[0,8]"), "dtype of tensor 'a' to be a string, got an array"},
      // Shapes.
      {one(R"("F32")", "2", "[0,8]"),
       "shape of tensor 'a' to be an array of up to 64 integers between 0 and 2^63 - 1, got 2"},
      {one(R"("F32")", "null", "[0,8]"), "got null"},
      {one(R"("F32")", R"("2")", "[0,8]"), "got the string '2'"},
      {one(R"("F32")", "{}", "[0,8]"), "got an object"},
      {one(R"("F32")", "[-2]", "[0,8]"), "got -2"},
      {one(R"("F32")", "[-0]", "[0,8]"), "got 0"},
      {one(R"("F32")", "[2.0]", "[0,8]"), "got 2.0"},
      {one(R"("F32")", "[2e0]", "[0,8]"), "got 2e0"},
      {one(R"("F32")", "[1e400]", "[0,8]"), "number overflow"},
      {one(R"("F32")", "[NaN]", "[0,8]"), "valid JSON"},
      {one(R"("F32")", "[Infinity]", "[0,8]"), "valid JSON"},
      {one(R"("F32")", "[02]", "[0,8]"), "valid JSON"},
      {one(R"("F32")", "[0x2]", "[0,8]"), "valid JSON"},
      {one(R"("F32")", "[true]", "[0,8]"), "got true"},
      {one(R"("F32")", R"(["2"])", "[0,8]"), "got the string '2'"},
      {one(R"("F32")", "[[2]]", "[0,8]"), "got an array"},
      {one(R"("F32")", "[{}]", "[0,8]"), "got an object"},
      {one(R"("F32")", "[null]", "[0,8]"), "got null"},
      {one(R"("F32")", "[3]", "[0,8]"), "to have 12 bytes"},
      {one(R"("F32")", "[]", "[0,8]"), "to have 4 bytes"},
      {one(R"("F32")", "[0]", "[0,8]"), "to have 0 bytes"},
      {one(R"("F32")", "[9223372036854775808]", "[0,8]"), "got 9223372036854775808"},
      {one(R"("F32")", "[18446744073709551615]", "[0,8]"), "got 18446744073709551615"},
      {one(R"("F32")", "[18446744073709551618]", "[0,8]"), "got 18446744073709551618"},
      {one(R"("F32")", "[4611686018427387906]", "[0,8]"), "to fit 63 bits"},
      {one(R"("U8")", "[4294967296,4294967296,8]", "[0,8]"), "to fit 63 bits"},
      {one(R"("U8")", "[4294967296,4294967296]", "[0,8]"), "to fit 63 bits"},
      {one(R"("F32")", "[9223372036854775807,9223372036854775807]", "[0,8]"), "to fit 63 bits"},
      {one(R"("F32")", "[0,9223372036854775807,9223372036854775807]", "[0,0]"), "to fit 63 bits"},
      {one(R"("F32")", "[1099511627776]", "[0,4398046511104]"), "to end within the 8 bytes after the header"},
      {one(R"("U8")", "[8" + repeat(",1", 64) + "]", "[0,8]"), "got more than 64 numbers"},
      // Offsets.
      {one(R"("F32")", "[2]", "8"), "data_offsets of tensor 'a' to be an array of 2 integers"},
      {one(R"("F32")", "[2]", "[]"), "to be an array of 2 integers, got 0"},
      {one(R"("F32")", "[2]", "[0]"), "to be an array of 2 integers, got 1"},
      {one(R"("F32")", "[2]", "[0,8,8]"), "got more than 2 numbers"},
      {one(R"("F32")", "[2]", "[8,0]"), "to rise and to end within"},
      {one(R"("F32")", "[2]", "[-8,0]"), "got -8"},
      {one(R"("F32")", "[2]", "[0.0,8.0]"), "got 0.0"},
      {one(R"("F32")", "[2]", R"(["0","8"])"), "got the string '0'"},
      {one(R"("F32")", "[2]", "[null,8]"), "got null"},
      {one(R"("F32")", "[2]", R"({"begin":0,"end":8})"), "got an object"},
      {one(R"("F32")", "[2]", "[1,9]"), "to end within the 8 bytes"},
      {one(R"("F32")", "[2]", "[0,9223372036854775807]"), "to end within the 8 bytes"},
      {one(R"("F32")", "[2]", "[18446744073709551608,18446744073709551616]"), "got 18446744073709551608"},
      {one(R"("F32")", "[1]", "[4,8]"), "to begin at data offset 0, where the one before ends, got 4 (hole)"},
      {one(R"("F32")", "[1]", "[0,4]"), "to cover the 8 bytes after the header, got 4"},
      {two("[0,4]", "[0,4]", 4), "to begin at data offset 4, where the one before ends, got 0 (overlap)"},
      {two("[0,4]", "[2,6]", 6), "got 2 (overlap)"},
      {two("[0,4]", "[5,9]", 9), "got 5 (hole)"},
      {two("[4,8]", "[8,12]", 12), "got 4 (hole)"},
      {two("[0,4]", "[4,8]", 9), "to cover the 9 bytes after the header, got 8"},
      {two("[0,4]", "[4,8]", 7), "to end within the 7 bytes"},
      {safetensors_bytes(header_with(R"(,"none":)" + entry(R"("F32")", "[0]", "[4,4]")), 8), "got 4 (overlap)"},
      {safetensors_bytes("{}", 1), "to cover the 1 bytes after the header, got 0"},
      // Data.
      {length_bytes(52) + R"({"a":{"dtype":"BOOL","shape":[2],"data_offsets":[0,2]}})" + "\1\2", "valid JSON"},
      {length_bytes(55) + R"({"a":{"dtype":"BOOL","shape":[2],"data_offsets":[0,2]}})" + "\1\2",
       "to hold the bytes 0 and 1, got 2 at byte 64 of the file"},
  };
  return files;
}

TEST(MalformedSafetensors, EachIsRefusedWithItsReason) {
  const TemporaryFolder folder;
  const auto path = folder.file("lie.safetensors");
  ASSERT_GE(corpus().size(), 60u);
  for (size_t i = 0; i < corpus().size(); ++i) {
    io_test::write_bytes(path, corpus()[i].bytes);
    const auto message = error_of([&] { load_safetensors(path); });
    const auto shown = "file " + std::to_string(i) + ": " + corpus()[i].bytes.substr(0, 200);
    EXPECT_THAT(message, HasSubstr("hopfield::io::load_safetensors: '" + path + "': expected")) << shown;
    EXPECT_THAT(message, HasSubstr(corpus()[i].reason)) << shown;
    EXPECT_LT(message.size(), 1500u) << shown;
    EXPECT_EQ(message.find('\n'), std::string::npos) << shown;
  }
}

TEST(MalformedSafetensors, TheFileTheyDifferFromIsValid) {
  const TemporaryFolder folder;
  const auto path = folder.file("valid.safetensors");
  io_test::write_bytes(path, kValidFile);
  EXPECT_EQ(load_safetensors(path).tensors.size(), 3u);
  io_test::write_bytes(path, one(R"("F32")", "[2]", "[0,8]"));
  EXPECT_EQ(load_safetensors(path).tensors.size(), 1u);
  io_test::write_bytes(path, two("[4,8]", "[0,4]", 8));
  EXPECT_EQ(load_safetensors(path).tensors.keys(), (std::vector<std::string>{"b", "a"}));
}

TEST(MalformedSafetensors, TruncatedAtEveryByteOrContinued) {
  const TemporaryFolder folder;
  const auto path = folder.file("truncated.safetensors");
  for (size_t size = 0; size < kValidFile.size(); ++size) {
    io_test::write_bytes(path, kValidFile.substr(0, size));
    EXPECT_THAT(error_of([&] { load_safetensors(path); }), HasSubstr(path)) << size << " bytes";
  }
  for (const size_t more : {1, 8, 4096}) {
    io_test::write_bytes(path, kValidFile + std::string(more, '\0'));
    EXPECT_THAT(error_of([&] { load_safetensors(path); }), HasSubstr("to cover the")) << more << " more bytes";
  }
}

TEST(MalformedSafetensors, NotAFile) {
  const TemporaryFolder folder;
  EXPECT_THAT(error_of([&] { load_safetensors(folder.file("absent")); }), HasSubstr("cannot open"));
  EXPECT_THAT(error_of([&] { load_safetensors(folder.file("")); }), HasSubstr("a folder or a device"));
  EXPECT_THAT(error_of([] { load_safetensors("/dev/zero"); }), HasSubstr("a folder or a device"));
  EXPECT_THAT(error_of([] { load_safetensors(""); }), HasSubstr("cannot open ''"));
}

/// Makes random files: valid ones, and ones with some bytes or tokens of the header changed.
class FileMaker {
 public:
  explicit FileMaker(uint64_t seed) : random_(seed) {}

  /// Up to four tensors in any order.
  std::string valid() {
    static const std::vector<std::pair<std::string, size_t>> kTypes{
        {"\"U8\"", 1}, {"\"BOOL\"", 1}, {"\"BF16\"", 2}, {"\"F32\"", 4}, {"\"I64\"", 8}};
    std::vector<std::string> entries;
    size_t offset = 0;
    for (size_t i = 0, count = below(5); i < count; ++i) {
      const auto& [type, item] = kTypes[below(kTypes.size())];
      size_t bytes = item;
      std::string shape = "[";
      for (size_t j = 0, dimensions = below(4); j < dimensions; ++j) {
        const auto size = below(4);
        bytes *= size;
        shape += (j == 0 ? "" : ",") + std::to_string(size);
      }
      entries.push_back(
          "\"t" + std::to_string(i) +
          "\":" + entry(type, shape + "]", "[" + std::to_string(offset) + "," + std::to_string(offset + bytes) + "]"));
      offset += bytes;
    }
    if (below(2) == 0) entries.emplace_back(R"("__metadata__":{"key":"value"})");
    std::shuffle(entries.begin(), entries.end(), random_);
    std::string header = "{";
    for (const auto& text : entries) header += (header == "{" ? "" : ",") + text;
    header_ = header + "}" + std::string(below(8), ' ');
    data_bytes_ = offset;
    return safetensors_bytes(header_, data_bytes_);
  }

  std::string mutated() {
    auto bytes = valid();
    if (below(2) == 0) {
      for (size_t i = 0; i <= below(2); ++i) change_byte(bytes);
      return bytes;
    }
    auto header = header_;
    for (size_t i = 0; i <= below(2); ++i) header = with_changed_token(header);
    return safetensors_bytes(header, below(10) == 0 ? below(40) : data_bytes_);
  }

 private:
  size_t below(size_t count) { return static_cast<size_t>(random_() % count); }

  void change_byte(std::string& bytes) {
    auto& byte = bytes[below(bytes.size())];
    byte = static_cast<char>(below(2) == 0 ? byte ^ (1 << below(8)) : static_cast<int>(below(256)));
  }

  /// Removes, repeats or replaces one token of the JSON, or inserts another.
  std::string with_changed_token(const std::string& text) {
    static const std::vector<std::string> kTokens{"0",
                                                  "1",
                                                  "2",
                                                  "4",
                                                  "8",
                                                  "12",
                                                  "-1",
                                                  "1.5",
                                                  "1e3",
                                                  "9223372036854775807",
                                                  "18446744073709551615",
                                                  "99999999999999999999999",
                                                  "null",
                                                  "true",
                                                  "\"F32\"",
                                                  "\"U8\"",
                                                  "\"BOOL\"",
                                                  "\"dtype\"",
                                                  "\"shape\"",
                                                  "\"data_offsets\"",
                                                  "\"__metadata__\"",
                                                  "\"t0\"",
                                                  "\"\\ud800\"",
                                                  "\"\xFF\"",
                                                  "[",
                                                  "]",
                                                  "{",
                                                  "}",
                                                  ",",
                                                  ":",
                                                  " ",
                                                  "[]",
                                                  "{}",
                                                  "[0,8]",
                                                  "[0,0]",
                                                  "[[[[[[[["};
    const auto word = [&](size_t i) { return std::isalnum(static_cast<unsigned char>(text[i])) || text[i] == '_'; };
    const auto begin = below(text.size());
    auto end = begin + 1;
    while (end < text.size() && word(begin) && word(end)) ++end;
    const auto before = text.substr(0, begin), token = text.substr(begin, end - begin), after = text.substr(end);
    const auto& other = kTokens[below(kTokens.size())];
    switch (below(4)) {
      case 0:
        return before + after;
      case 1:
        return before + token + token + after;
      case 2:
        return before + other + token + after;
      default:
        return before + other + after;
    }
  }

  std::mt19937_64 random_;
  std::string header_;
  size_t data_bytes_ = 0;
};

TEST(MalformedSafetensors, MutationsLoadOrAreRefused) {
  const TemporaryFolder folder;
  const auto path = folder.file("mutated.safetensors");
  FileMaker files(20210112);
  int loaded = 0, refused = 0;
  for (int i = 0; i < 20'000; ++i) {
    io_test::write_bytes(path, files.valid());
    ASSERT_EQ(error_of([&] { load_safetensors(path); }), "");
    io_test::write_bytes(path, files.mutated());
    const auto message = error_of([&] { load_safetensors(path); });
    ++(message.empty() ? loaded : refused);
    EXPECT_TRUE(message.empty() || message.find(path) != std::string::npos) << message;
  }
  // Neither side may be empty: then the mutations would try nothing.
  EXPECT_GT(loaded, 500);
  EXPECT_GT(refused, 5000);
}

}  // namespace
