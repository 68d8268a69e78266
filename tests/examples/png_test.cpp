#include "common/png.h"

#include "png_maker.h"
#include "support/errors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

namespace hopfield::examples {
namespace {

using ::testing::ElementsAre;
using testing::error_of;
using ::testing::HasSubstr;

constexpr auto kPath = "cat.png";

/// Bytes, zeros among them, as a text.
std::string bytes(std::initializer_list<int> values) {
  std::string text;
  for (const int value : values) text += static_cast<char>(value);
  return text;
}

std::string grey_file() { return png_file({3, 2, 8, 0}, bytes({0, 10, 20, 30, 0, 40, 50, 60})); }

std::string refusal(const std::string& content) {
  return error_of([&] { decode_png(content, kPath); });
}

TEST(Png, ReadsGrey) {
  const auto pixels = decode_png(grey_file(), kPath);
  EXPECT_EQ(pixels.width, 3);
  EXPECT_EQ(pixels.height, 2);
  EXPECT_EQ(pixels.channels, 1);
  EXPECT_THAT(pixels.values, ElementsAre(10, 20, 30, 40, 50, 60));
}

TEST(Png, ReadsFewerBitsAndMore) {
  EXPECT_THAT(decode_png(png_file({4, 1, 1, 0}, bytes({0, 0b01010000})), kPath).values, ElementsAre(0, 255, 0, 255));
  EXPECT_THAT(decode_png(png_file({2, 1, 4, 0}, bytes({0, 0x3F})), kPath).values, ElementsAre(0x33, 255));
  // The lower of two bytes is dropped.
  EXPECT_THAT(decode_png(png_file({2, 1, 16, 0}, bytes({0, 100, 7, 200, 255})), kPath).values, ElementsAre(100, 200));
}

TEST(Png, ReadsColourAndAlpha) {
  EXPECT_THAT(decode_png(png_file({1, 1, 8, 2}, bytes({0, 1, 2, 3})), kPath).values, ElementsAre(1, 2, 3));
  const auto grey = decode_png(png_file({2, 1, 8, 4}, bytes({0, 1, 2, 3, 4})), kPath);
  EXPECT_EQ(grey.channels, 2);
  EXPECT_THAT(grey.values, ElementsAre(1, 2, 3, 4));
  const auto colour = decode_png(png_file({1, 1, 8, 6}, bytes({0, 1, 2, 3, 4})), kPath);
  EXPECT_EQ(colour.channels, 4);
  EXPECT_THAT(colour.values, ElementsAre(1, 2, 3, 4));
}

TEST(Png, LooksUpPalettes) {
  const auto palette = chunk("PLTE", bytes({255, 0, 0, 0, 0, 255}));
  const auto rows = bytes({0, 1, 0});
  const auto opaque = decode_png(png_file({2, 1, 8, 3}, rows, palette), kPath);
  EXPECT_EQ(opaque.channels, 3);
  EXPECT_THAT(opaque.values, ElementsAre(0, 0, 255, 255, 0, 0));
  const auto clear = decode_png(png_file({2, 1, 8, 3}, rows, palette + chunk("tRNS", bytes({9}))), kPath);
  EXPECT_EQ(clear.channels, 4);
  EXPECT_THAT(clear.values, ElementsAre(0, 0, 255, 255, 255, 0, 0, 9));
}

TEST(Png, ReadsInterlacedImages) {
  // A 2x2 image has pixels in three of the seven passes: (0, 0), then the rest of the first row, then the second row.
  const auto rows = bytes({0, 1, 0, 2, 0, 3, 4});
  EXPECT_THAT(decode_png(png_file({2, 2, 8, 0, 1}, rows), kPath).values, ElementsAre(1, 2, 3, 4));
}

TEST(Png, PassesOverOtherChunksAndWhatFollows) {
  const auto content = png_file({1, 1, 8, 0}, bytes({0, 7}), chunk("tEXt", "Title")) + "anything";
  EXPECT_THAT(decode_png(content, kPath).values, ElementsAre(7));
}

TEST(Png, ReadsWhatItWrites) {
  for (const int64_t channels : {1, 2, 3, 4}) {
    Pixels pixels{37, 23, channels, {}};
    std::minstd_rand random(7);
    for (int64_t i = 0; i < 37 * 23 * channels; ++i) pixels.values.push_back(static_cast<uint8_t>(random() >> 8));
    const auto content = encode_png(pixels);
    EXPECT_EQ(content, encode_png(pixels));
    const auto back = decode_png(content, kPath);
    EXPECT_EQ(back.width, 37);
    EXPECT_EQ(back.height, 23);
    EXPECT_EQ(back.channels, channels);
    EXPECT_EQ(back.values, pixels.values);
  }
}

TEST(Png, RefusesFilesThatAreNotPng) {
  for (const std::string content : {"", "P", "GIF89a..............", "\x89PNG\n\n\x1a\n"}) {
    EXPECT_THAT(refusal(content), HasSubstr("expected a PNG file, got 'cat.png', which does not begin like one"));
  }
}

TEST(Png, RefusesEveryTruncation) {
  const auto content = grey_file();
  for (size_t size = kPngSignature.size(); size < content.size(); ++size) {
    EXPECT_THAT(refusal(content.substr(0, size)), HasSubstr("which is cut off after " + std::to_string(size))) << size;
  }
}

TEST(Png, RefusesEveryChangeOfAByte) {
  const auto content = grey_file();
  for (size_t i = 0; i < content.size(); ++i) {
    auto damaged = content;
    damaged[i] = static_cast<char>(damaged[i] ^ 0x20);
    EXPECT_THAT(refusal(damaged), HasSubstr("expected")) << i;
  }
}

TEST(Png, RefusesSizesBeforeItAllocatesMemory) {
  for (const auto& [width, height] :
       {std::pair{1u << 13, (1u << 12) + 1}, {0xFFFFFFFFu, 0xFFFFFFFFu}, {1u, 1u << 30}}) {
    const auto message = refusal(png_file({width, height, 8, 0}, bytes({0, 1})));
    EXPECT_THAT(message, HasSubstr("expected an image of at most 33554432 pixels, got 'cat.png' with "));
    EXPECT_THAT(message, HasSubstr(std::to_string(width) + "x" + std::to_string(height)));
  }
}

TEST(Png, RefusesWhatDoesNotDecode) {
  const auto none = bytes({0, 1});
  const std::vector<std::string> contents{
      png_file({0, 1, 8, 0}, none),                     // no pixels
      png_file({9, 9, 8, 0}, none),                     // fewer rows than promised
      png_file({1, 1, 3, 0}, none),                     // a depth that does not exist
      png_file({1, 1, 8, 3}, none),                     // no palette
      png_file({1, 1, 8, 0}, bytes({9, 1})),            // a filter that does not exist
      png_file({1, 1, 8, 0}, none, chunk("ABCD", "")),  // an unknown chunk that must be understood
      kPngSignature + PngKind{1, 1, 8, 0}.chunk() + chunk("IDAT", "no zlib stream") + chunk("IEND", ""),
      kPngSignature + PngKind{1, 1, 8, 0}.chunk() + chunk("IEND", ""),  // no data
  };
  for (size_t i = 0; i < contents.size(); ++i) {
    EXPECT_THAT(refusal(contents[i]), HasSubstr("expected a PNG file that can be decoded, got 'cat.png': ")) << i;
  }
  EXPECT_THAT(refusal(kPngSignature + chunk("IEND", "")), HasSubstr("to begin with the size of its image"));
}

TEST(Png, RefusesSmallFilesThatUnpackToMuchMore) {
  // 8 kB of a stream that repeats zeros, after a header for a single pixel: in deflate's fixed code, a literal zero is
  // 00110000, a match of length 258 is 11000101, and its distance of 1 is 00000.
  std::string bits = "110";  // the last block, with the fixed code
  bits += "00110000";
  for (int i = 0; i < 5000; ++i) bits += "1100010100000";
  bits += "0000000";
  std::string stream("\x78\x01", 2);
  for (size_t i = 0; i < bits.size(); i += 8) {
    int byte = 0;
    for (size_t k = i; k < std::min(i + 8, bits.size()); ++k) byte |= (bits[k] - '0') << (k - i);
    stream += static_cast<char>(byte);
  }
  const auto content = kPngSignature + PngKind{1, 1, 8, 0}.chunk() + chunk("IDAT", stream) + chunk("IEND", "");
  EXPECT_THAT(refusal(content), HasSubstr("expected a PNG file that can be decoded, got 'cat.png': outofmem"));
}

TEST(Png, SurvivesAnyData) {
  std::minstd_rand random(11);
  int refused = 0;
  constexpr int kTries = 3000;
  for (int i = 0; i < kTries; ++i) {
    // Damage with right checksums, which reaches the decoder.
    auto data = stored(bytes({0, 10, 20, 30, 0, 40, 50, 60}));
    for (auto& byte : data) {
      if (random() % 8 == 0) byte = static_cast<char>(random() >> 8);
    }
    const PngKind kind{1 + static_cast<uint32_t>(random() % 4), 2, 8, static_cast<char>(random() % 7),
                       static_cast<char>(random() % 2)};
    const auto palette = chunk("PLTE", bytes({1, 2, 3, 4, 5, 6}));
    const auto content = kPngSignature + kind.chunk() + palette + chunk("IDAT", data) + chunk("IEND", "");
    const auto message = refusal(content);
    EXPECT_EQ(message.find('\n'), std::string::npos);
    refused += message.empty() ? 0 : 1;
  }
  EXPECT_GT(refused, kTries / 2);
  EXPECT_LT(refused, kTries);
}

TEST(Png, RefusesToWriteWhatIsNoImage) {
  for (const auto& pixels :
       {Pixels{0, 1, 1, {}}, Pixels{1 << 20, 1 << 20, 1, {}}, Pixels{2, 1, 1, {1}}, Pixels{1, 1, 5, {1, 2, 3, 4, 5}}}) {
    EXPECT_THAT(error_of([&] { encode_png(pixels); }), HasSubstr("write_image: expected"));
  }
}

}  // namespace
}  // namespace hopfield::examples
