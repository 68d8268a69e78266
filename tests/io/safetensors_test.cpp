#include "io/files.h"
#include "support/errors.h"
#include <hopfield/io/safetensors.h>

#include <ATen/ATen.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <limits>
#include <string>
#include <thread>
#include <vector>

namespace {

using hopfield::io::load_safetensors;
using hopfield::io::save_safetensors;
using hopfield::io::TensorDict;
using hopfield::testing::error_of;
using io_test::read_bytes;
using io_test::same_bytes;
using io_test::TemporaryFolder;
using testing::AllOf;
using testing::HasSubstr;

const std::vector<at::ScalarType> kDtypes{at::kBool,
                                          at::kByte,
                                          at::kChar,
                                          at::kFloat8_e5m2,
                                          at::kFloat8_e4m3fn,
                                          at::kFloat8_e8m0fnu,
                                          at::kFloat8_e4m3fnuz,
                                          at::kFloat8_e5m2fnuz,
                                          at::kShort,
                                          at::kUInt16,
                                          at::kHalf,
                                          at::kBFloat16,
                                          at::kInt,
                                          at::kUInt32,
                                          at::kFloat,
                                          at::kComplexFloat,
                                          at::kDouble,
                                          at::kLong,
                                          at::kUInt64};

/// A tensor of any type with arbitrary bytes.
at::Tensor random_bytes(at::IntArrayRef shape, at::ScalarType dtype) {
  if (dtype == at::kBool) return at::randint(2, shape, at::kByte).to(at::kBool);
  auto bytes = shape.vec();
  bytes.push_back(static_cast<int64_t>(c10::elementSize(dtype)));
  return at::randint(256, bytes, at::kByte).view(dtype).squeeze(-1);
}

void expect_round_trip(const TensorDict& tensors, const hopfield::io::Metadata& metadata = {}) {
  const TemporaryFolder folder;
  const auto path = folder.file("tensors.safetensors");
  save_safetensors(path, tensors, metadata);
  const auto loaded = load_safetensors(path);
  EXPECT_EQ(loaded.metadata, metadata);
  ASSERT_EQ(loaded.tensors.size(), tensors.size());
  for (const auto& item : tensors) {
    ASSERT_TRUE(loaded.tensors.contains(item.key())) << item.key();
    EXPECT_TRUE(same_bytes(loaded.tensors[item.key()], item.value().resolve_conj().resolve_neg())) << item.key();
    EXPECT_TRUE(loaded.tensors[item.key()].is_contiguous());
  }
  EXPECT_EQ(folder.size(), 1u);
}

TEST(Safetensors, EveryTypeAndShapeComesBack) {
  at::manual_seed(1);
  TensorDict tensors;
  for (const auto dtype : kDtypes) {
    const auto name = std::string(c10::toString(dtype));
    tensors.insert(name + ".matrix", random_bytes({3, 5}, dtype));
    tensors.insert(name + ".scalar", random_bytes({}, dtype));
    tensors.insert(name + ".empty", random_bytes({0}, dtype));
    tensors.insert(name + ".empty_middle", random_bytes({4, 0, 2}, dtype));
    tensors.insert(name + ".many_dimensions", random_bytes({1, 2, 1, 3, 1, 1, 2, 1}, dtype));
  }
  expect_round_trip(tensors);
}

TEST(Safetensors, SpecialValuesComeBack) {
  const double infinity = std::numeric_limits<double>::infinity();
  const auto values = at::tensor({0.0, -0.0, infinity, -infinity, std::numeric_limits<double>::quiet_NaN(),
                                  std::numeric_limits<double>::denorm_min(), std::numeric_limits<double>::max()},
                                 at::kDouble);
  expect_round_trip({{"double", values}, {"float", values.to(at::kFloat)}, {"half", values.to(at::kHalf)}});
}

TEST(Safetensors, ViewsAreWrittenAsTheyLook) {
  const auto base = at::arange(24, at::kFloat).view({4, 6});
  const auto complex = at::complex(at::arange(4, at::kFloat), at::ones({4}));
  const auto parameter = at::arange(3, at::kFloat).requires_grad_();
  TensorDict tensors{
      {"transposed", base.t()},     {"sliced", base.slice(1, 1, 6, 2)}, {"expanded", base[0].expand({3, 6})},
      {"offset", base.view(-1)[5]}, {"conjugate", complex.conj()},      {"negative", at::imag(complex.conj())}};
  expect_round_trip(tensors);
  const TemporaryFolder folder;
  save_safetensors(folder.file("p"), {{"parameter", parameter}});
  EXPECT_FALSE(load_safetensors(folder.file("p")).tensors["parameter"].requires_grad());
}

TEST(Safetensors, NamesAndTextsComeBack) {
  const auto one = at::ones({1});
  TensorDict tensors{{"", one},
                     {"a.b.weight", one},
                     {"Hopfieldnetz \xC3\xBC\xE4\xBD\xA0\xF0\x9F\xA7\xA0", one},
                     {"quote \" backslash \\ slash / newline \n tab \t bell \a", one},
                     {std::string("null \0 character", 16), one},
                     {std::string(100'000, 'x'), one},
                     {"dtype", one},
                     {"shape", one}};
  expect_round_trip(tensors, {{"", ""}, {"format", "pt"}, {"\xF0\x9F\xA7\xA0", "{\"json\": [1, 2]}\n"}});
}

TEST(Safetensors, NoTensorsAndOnlyMetadata) {
  expect_round_trip(TensorDict());
  expect_round_trip(TensorDict(), {{"epoch", "3"}});
}

TEST(Safetensors, BytesAreThoseOfTheFormat) {
  const TemporaryFolder folder;
  const auto path = folder.file("f");
  save_safetensors(path, {{"attn0", at::arange(2, at::kFloat)}, {"x", at::tensor({7}, at::kLong)}}, {{"format", "pt"}});
  const std::string header = R"({"__metadata__":{"format":"pt"},"x":{"dtype":"I64","shape":[1],"data_offsets":[0,8]},)"
                             R"("attn0":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}})";
  const auto padded = header + std::string((8 - header.size() % 8) % 8, ' ');
  EXPECT_EQ(read_bytes(path),
            io_test::length_bytes(padded.size()) + padded + std::string("\7\0\0\0\0\0\0\0\0\0\0\0\0\0\x80\x3F", 16));
  save_safetensors(path, TensorDict());
  EXPECT_EQ(read_bytes(path), io_test::length_bytes(8) + "{}      ");
}

TEST(Safetensors, BytesDoNotDependOnTheOrderGiven) {
  const TemporaryFolder folder;
  const auto a = at::ones({3}), b = at::zeros({2}, at::kLong), c = at::ones({3}, at::kByte);
  save_safetensors(folder.file("1"), {{"a", a}, {"b", b}, {"c", c}});
  save_safetensors(folder.file("2"), {{"c", c}, {"b", b}, {"a", a}});
  EXPECT_EQ(read_bytes(folder.file("1")), read_bytes(folder.file("2")));
}

TEST(Safetensors, TensorsOutliveTheFile) {
  TensorDict tensors;
  {
    const TemporaryFolder folder;
    save_safetensors(folder.file("f"), {{"a", at::full({1000}, 2.0)}});
    tensors = load_safetensors(folder.file("f")).tensors;
    io_test::write_bytes(folder.file("f"), "");
  }
  tensors["a"].add_(1);
  EXPECT_EQ(tensors["a"].sum().item<double>(), 3000);
}

TEST(Safetensors, OrdersAndSpacingsThatOtherWritersUse) {
  const TemporaryFolder folder;
  const std::string entries =
      R"({ "b": {"data_offsets":[4,8], "shape":[1], "dtype":"F32"},)"
      "\n\t"
      R"("a": {"dtype":"I32","shape":[],"data_offsets":[0,4]}, "none": {"dtype":"F64","shape":[9,0],"data_offsets":[4,4]} })";
  io_test::write_bytes(folder.file("f"), io_test::safetensors_bytes(entries + "  \n", 8));
  const auto loaded = load_safetensors(folder.file("f")).tensors;
  ASSERT_EQ(loaded.keys(), (std::vector<std::string>{"a", "none", "b"}));
  EXPECT_EQ(loaded["a"].item<int64_t>(), 0x01010101);
  EXPECT_EQ(loaded["none"].sizes(), at::IntArrayRef({9, 0}));
}

TEST(Safetensors, RefusesToWriteWhatTheFormatLacks) {
  const TemporaryFolder folder;
  const auto path = folder.file("f");
  const auto one = at::ones({2});
  const auto error = [&](const TensorDict& tensors, const hopfield::io::Metadata& metadata = {}) {
    const auto message = error_of([&] { save_safetensors(path, tensors, metadata); });
    EXPECT_THAT(message, HasSubstr("hopfield::io::save_safetensors: '" + path + "': expected"));
    return message;
  };
  EXPECT_THAT(error({{"a", at::Tensor()}}), HasSubstr("tensor 'a' to be defined"));
  EXPECT_THAT(error({{"a", one.to(at::kComplexDouble)}}),
              AllOf(HasSubstr("one of the types BOOL U8"), HasSubstr("ComplexDouble")));
  EXPECT_THAT(error({{"a", one.to_sparse()}}), AllOf(HasSubstr("dense"), HasSubstr("Sparse")));
  EXPECT_THAT(error({{"a", at::empty({2}, at::kMeta)}}), HasSubstr("meta"));
  EXPECT_THAT(error({{"a", one[0].expand(std::vector<int64_t>(65, 1))}}), HasSubstr("at most 64 dimensions"));
  EXPECT_THAT(error({{"a", one[0].expand({int64_t{1} << 61})}}), HasSubstr("fewer than 2^63 bytes"));
  EXPECT_THAT(error({{"__metadata__", one}}), HasSubstr("reserves"));
  EXPECT_THAT(error({{"a\xFF", one}}), HasSubstr("UTF-8"));
  EXPECT_THAT(error({{"a", one}}, {{"k\xC3", "v"}}), HasSubstr("UTF-8"));
  EXPECT_THAT(error({{"a", one}}, {{"k", "\xED\xA0\x80"}}), HasSubstr("UTF-8"));
  EXPECT_THAT(error({{std::string(100'000'001, 'x'), one}}), HasSubstr("at most 100000000 bytes"));
  EXPECT_EQ(folder.size(), 0u);
}

TEST(Safetensors, ThreadsThatSaveToOneFileLeaveOneOfTheirs) {
  const TemporaryFolder folder;
  const auto path = folder.file("f");
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&, i] {
      for (int j = 0; j < 5; ++j) save_safetensors(path, {{"a", at::full({4096}, i)}});
    });
  }
  for (auto& thread : threads) thread.join();
  const auto a = load_safetensors(path).tensors["a"];
  EXPECT_TRUE(a.eq(a[0]).all().item<bool>());
  EXPECT_EQ(folder.size(), 1u);
}

}  // namespace
