#include "common/image.h"

#include "common/png.h"
#include "png_maker.h"
#include "support/errors.h"
#include "temporary_folder.h"
#include "usage_error.h"

#include <ATen/ATen.h>
#include <torch/types.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>

namespace hopfield::examples {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using testing::error_of;
using ::testing::HasSubstr;

/// A grey image whose values differ, all of them multiples of 1/255.
at::Tensor some_image(int64_t width, int64_t height, int64_t channels = 1) {
  return (at::arange(width * height * channels) * 7 % 256).to(at::kFloat).div(255).view({height, width, channels});
}

/// The mean of the area that each pixel of the result covers, by its definition.
at::Tensor naive_resize(const at::Tensor& image, const ImageSize& size) {
  auto result = at::zeros({size.height, size.width, image.size(2)}, at::kDouble);
  const auto overlap = [](double begin, double end, double from, double to) {
    return std::max(0.0, std::min(end, to) - std::max(begin, from));
  };
  const double high = static_cast<double>(image.size(0)) / size.height;
  const double wide = static_cast<double>(image.size(1)) / size.width;
  for (int64_t y = 0; y < size.height; ++y) {
    for (int64_t x = 0; x < size.width; ++x) {
      for (int64_t i = 0; i < image.size(0); ++i) {
        for (int64_t j = 0; j < image.size(1); ++j) {
          const auto area = overlap(y * high, (y + 1) * high, i, i + 1) * overlap(x * wide, (x + 1) * wide, j, j + 1);
          result[y][x] += image[i][j].to(at::kDouble) * (area / (high * wide));
        }
      }
    }
  }
  return result;
}

TEST(Image, ComesBackFromItsFile) {
  const TemporaryFolder folder;
  for (const int64_t channels : {1, 3}) {
    const auto image = some_image(19, 11, channels);
    write_image(folder / "image.png", image);
    EXPECT_TRUE(read_image(folder / "image.png").equal(image)) << channels;
  }
  write_image(folder / "flat.PNG", some_image(4, 3).squeeze(2).to(at::kDouble));
  EXPECT_TRUE(read_image(folder / "flat.PNG").equal(some_image(4, 3)));
}

TEST(Image, HasTheSameBytesEachTime) {
  const TemporaryFolder folder;
  write_image(folder / "a.png", some_image(40, 30, 3));
  write_image(folder / "b.png", some_image(40, 30, 3).permute({1, 0, 2}).contiguous().permute({1, 0, 2}));
  EXPECT_EQ(folder.read("a.png"), folder.read("b.png"));
}

TEST(Image, LimitsValuesAndRoundsThem) {
  const TemporaryFolder folder;
  write_image(folder / "a.png", torch::tensor({{-1.0, 0.0019, 0.0021, 0.5, 7.0}}));
  const auto expected = torch::tensor({0.0f, 0.0f, 1.0f, 128.0f, 255.0f}).div(255).view({1, 5, 1});
  EXPECT_TRUE(read_image(folder / "a.png").equal(expected));
}

TEST(Image, LaysTransparencyOverWhite) {
  const TemporaryFolder folder;
  const std::string row{0, 100, '\xFF', 100, 0, 0, 51};
  const auto grey = read_image(folder.write("a.png", png_file({3, 1, 8, 4}, row)));
  EXPECT_TRUE(grey.allclose(torch::tensor({100.0 / 255, 1.0, 0.8}, at::kFloat).view({1, 3, 1})));
  const std::string pixel{0, '\xFF', 0, 0, 51};
  const auto colour = read_image(folder.write("b.png", png_file({1, 1, 8, 6}, pixel)));
  EXPECT_TRUE(colour.allclose(torch::tensor({1.0, 0.8, 0.8}, at::kFloat).view({1, 1, 3})));
}

TEST(Image, IsResizedByMeansOfAreas) {
  for (const auto& size : {ImageSize{4, 3}, {2, 5}, {7, 4}, {1, 1}, {12, 9}, {13, 20}}) {
    const auto image = some_image(12, 9, 3);
    const auto result = resize_images(image, size);
    EXPECT_EQ(result.scalar_type(), at::kFloat);
    EXPECT_TRUE(result.to(at::kDouble).allclose(naive_resize(image, size), 0, 1e-7))
        << size.width << "x" << size.height;
  }
}

TEST(Image, IsResizedInStacks) {
  const auto images = at::stack({some_image(6, 8, 3), 1 - some_image(6, 8, 3)});
  const auto result = resize_images(images, {4, 2});
  ASSERT_EQ(result.sizes(), at::IntArrayRef({2, 2, 4, 3}));
  EXPECT_TRUE(result[1].equal(resize_images(images[1], {4, 2})));
  EXPECT_TRUE(resize_images(at::ones({5, 5, 1}), {3, 3}).equal(at::ones({3, 3, 1})));
  EXPECT_TRUE(resize_images(at::zeros({5, 5, 1}), {3, 3}).equal(at::zeros({3, 3, 1})));
  // A strip for which a table of all weights would need terabytes.
  EXPECT_EQ(resize_images(at::ones({1, 1 << 20, 1}), {1 << 19, 1}).size(1), 1 << 19);
}

TEST(Image, BecomesGrey) {
  const auto image =
      torch::tensor({1.0f, 0.0f, 0.0f, 0.0f, 1.0f, 0.0f, 0.0f, 0.0f, 1.0f, 1.0f, 1.0f, 1.0f}).view({1, 4, 3});
  EXPECT_TRUE(to_grey(image).allclose(torch::tensor({0.299f, 0.587f, 0.114f, 1.0f}).view({1, 4, 1})));
  EXPECT_TRUE(to_grey(some_image(3, 3)).equal(some_image(3, 3)));
}

TEST(Image, SaysWhyAFileCannotBeRead) {
  const TemporaryFolder folder;
  const auto refusal = [](const std::string& path) { return error_of([&] { read_image(path); }); };
  EXPECT_THAT(refusal(folder / "none.png"), HasSubstr("none.png', which does not exist"));
  EXPECT_THAT(refusal(folder.path()), HasSubstr("which is a folder or a device"));
  ASSERT_EQ(::mkfifo((folder / "pipe.png").c_str(), 0600), 0);
  EXPECT_THAT(refusal(folder / "pipe.png"), HasSubstr("which is a folder or a device"));
  EXPECT_THAT(refusal(folder.write("empty.png", "")), HasSubstr("which does not begin like one"));
  EXPECT_THAT(refusal(folder.write("photo.png", "\xFF\xD8\xFF\xE0 JFIF")), HasSubstr("convert it to PNG"));
  const auto whole = encode_png({2, 2, 1, {1, 2, 3, 4}});
  EXPECT_THAT(refusal(folder.write("cut.png", whole.substr(0, 40))), HasSubstr("which is cut off after 40 bytes"));
  const auto huge = folder.write("huge.png", whole);
  std::filesystem::resize_file(huge, (uintmax_t{1} << 29) + 1);  // a file with a hole, which needs no room on the disk
  EXPECT_THAT(refusal(huge), HasSubstr("of at most 536870912 bytes"));
}

TEST(Image, IsNotWrittenIfItIsNone) {
  const TemporaryFolder folder;
  const auto refusal = [&](const at::Tensor& image, const std::string& name = "a.png") {
    return error_of([&] { write_image(folder / name, image); });
  };
  EXPECT_THAT(refusal(at::ones({2, 2}), "a.jpg"), HasSubstr("expected a file name that ends in .png, got"));
  EXPECT_THAT(refusal(at::ones({2, 2, 2})), HasSubstr("with 1 or 3 channels, got [2, 2, 2]"));
  EXPECT_THAT(refusal(at::ones({2})), HasSubstr("got [2]"));
  EXPECT_THAT(refusal(at::full({2, 2}, NAN)), HasSubstr("expected numbers, got NaN"));
  EXPECT_THAT(refusal(at::ones({0, 2})), HasSubstr("expected an image of 1 to 33554432 pixels, got 2x0"));
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(Image, ReplacesItsFileAsAWhole) {
  const TemporaryFolder folder;
  write_image(folder / "a.png", some_image(3, 3));
  const auto before = folder.read("a.png");
  EXPECT_NE(error_of([&] { write_image(folder / "a.png", at::full({2, 2}, NAN)); }), "");
  EXPECT_EQ(folder.read("a.png"), before);
  EXPECT_NE(error_of([&] { write_image(folder / "missing/a.png", at::ones({2, 2})); }), "");
}

TEST(ImageFolder, ReadsPngFilesInOrderOfNames) {
  const TemporaryFolder folder;
  for (const auto* name : {"b.png", "a.PNG", "c10.png", "c2.png"}) {
    write_image(folder / "x.png", at::full({2, 3}, name[1] == '.' ? 0.2 : 0.4));
    std::filesystem::rename(folder / "x.png", folder / name);
  }
  folder.write("notes.txt", "");
  folder.write("._b.png", "metadata of another system");
  std::filesystem::create_directory(folder / "old.png");
  const auto result = read_image_folder(folder.path());
  EXPECT_THAT(result.names, ElementsAre("a.PNG", "b.png", "c10.png", "c2.png"));
  EXPECT_EQ(result.skipped, 2);
  ASSERT_EQ(result.images.sizes(), at::IntArrayRef({4, 2, 3, 1}));
  const auto means = result.images.mean(at::IntArrayRef{1, 2, 3});
  EXPECT_TRUE(means.allclose(torch::tensor({0.2f, 0.2f, 0.4f, 0.4f})));
}

TEST(ImageFolder, MakesAllColouredIfOneIs) {
  const TemporaryFolder folder;
  write_image(folder / "a.png", some_image(3, 2));
  write_image(folder / "b.png", some_image(3, 2, 3));
  const auto images = read_image_folder(folder.path()).images;
  ASSERT_EQ(images.sizes(), at::IntArrayRef({2, 2, 3, 3}));
  EXPECT_TRUE(images[0].equal(some_image(3, 2).expand({2, 3, 3})));
}

TEST(ImageFolder, ResizesImages) {
  const TemporaryFolder folder;
  write_image(folder / "a.png", some_image(6, 4));
  write_image(folder / "b.png", some_image(8, 8));
  const auto message = error_of([&] { read_image_folder(folder.path()); });
  EXPECT_THAT(message, AllOf(HasSubstr("expected images of the same size in "),
                             HasSubstr("'a.png' with 6x4 and 'b.png' with 8x8 pixels; choose a size")));
  const auto images = read_image_folder(folder.path(), ImageSize{3, 2}).images;
  EXPECT_TRUE(images[1].equal(resize_images(some_image(8, 8), {3, 2})));
}

TEST(ImageFolder, SaysWhatIsWrong) {
  const TemporaryFolder folder;
  const auto refusal = [&](const std::string& path) { return error_of([&] { read_image_folder(path); }); };
  EXPECT_THAT(refusal(folder.path()), HasSubstr("expected a folder with PNG files, got"));
  EXPECT_THAT(refusal(folder / "none"), HasSubstr("expected a folder that can be read, got"));
  EXPECT_THAT(refusal(folder.write("file", "")), HasSubstr("expected a folder that can be read, got"));
  folder.write("broken.png", "no image");
  EXPECT_THAT(refusal(folder.path()), HasSubstr("broken.png', which does not begin like one"));
}

std::string size_error(const std::string& text, std::optional<ImageSize>& size) {
  CLI::App app;
  add_image_size(app, "--size", size, "Size of the images");
  return usage_error_of([&] { app.parse(std::vector<std::string>{text, "--size"}); });
}

TEST(ImageSizeOption, ReadsWidthAndHeight) {
  std::optional<ImageSize> size;
  EXPECT_EQ(size_error("28x14", size), "");
  ASSERT_TRUE(size);
  EXPECT_EQ(size->width, 28);
  EXPECT_EQ(size->height, 14);
}

TEST(ImageSizeOption, RefusesOtherTexts) {
  std::optional<ImageSize> size;
  for (const auto* text : {"28", "x", "28x", "x28", "28x28x3", "28 x 28", "0x5", "5x0", "-2x-3", "2.5x3", "axb", "",
                           "99999999999999999999x2"}) {
    EXPECT_THAT(size_error(text, size), HasSubstr("--size: expected a width and a height like 28x28, got '")) << text;
  }
  EXPECT_THAT(size_error("100000x100000", size), HasSubstr("--size: expected at most 33554432 pixels"));
  EXPECT_THAT(size_error("9223372036854775807x9223372036854775807", size), HasSubstr("expected at most"));
}

}  // namespace
}  // namespace hopfield::examples
