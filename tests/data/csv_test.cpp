#include "data/temporary_file.h"
#include "support/errors.h"
#include <hopfield/data/csv.h>

#include <torch/types.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <chrono>
#include <cmath>
#include <filesystem>
#include <locale>

namespace hopfield::data {
namespace {

using ::testing::ElementsAre;
using testing::error_of;

std::string data_path(const std::string& name) { return std::string(HOPFIELD_DATA_DIR) + "/" + name; }

#define SKIP_WITHOUT(path) \
  if (!std::filesystem::exists(path)) GTEST_SKIP() << path << " is missing; scripts/bootstrap.sh fetches it"

at::Tensor tensor_of(const std::vector<float>& values, int64_t columns) {
  return torch::tensor(values).view({-1, columns});
}

TEST(ReadMilCsv, GroupsRowsByIdInOrderOfFirstAppearance) {
  TemporaryFile file("1,b,1,2\n0,a,3,4\n1,b,5,6\n0,a,7,8\n1,c,9,10\n");
  const auto table = read_mil_csv(file.path());
  EXPECT_THAT(table.bag_ids, ElementsAre("b", "a", "c"));
  EXPECT_EQ(table.features, 2);
  ASSERT_EQ(table.bags.size(), 3u);
  EXPECT_TRUE(table.bags[0].instances.equal(tensor_of({1, 2, 5, 6}, 2)));
  EXPECT_TRUE(table.bags[1].instances.equal(tensor_of({3, 4, 7, 8}, 2)));
  EXPECT_TRUE(table.bags[2].instances.equal(tensor_of({9, 10}, 2)));
  EXPECT_TRUE(table.labels().equal(torch::tensor({1.0, 0.0, 1.0}, at::kDouble)));
}

TEST(ReadMilCsv, AcceptsTheUsualVariants) {
  const auto expected = tensor_of({1.5, -2, 3, 4}, 2);
  for (const std::string content : {
           "1,7,1.5,-2\n1,7,3,4\n",      // plain
           "1,7,1.5,-2\n1,7,3,4",        // no newline at the end
           "1,7,1.5,-2\r\n1,7,3,4\r\n",  // CRLF
           "\xEF\xBB\xBF"
           "1,7,1.5,-2\n1,7,3,4\n",                   // byte order mark
           "1,7,1.5,-2\n1,7,3,4\n\n\r\n  \n",         // empty lines at the end
           "label,bag,f1,f2\n1,7,1.5,-2\n1,7,3,4\n",  // header
           "\xEF\xBB\xBF\"label\",\"bag\",\"a, b\",f\r\n1,7,1.5,-2\r\n1,7,3,4\r\n",
           " 1 ,\t7, 1.5 , -2 \n1,7,3,4\n",                 // blanks
           "\"1\",\"7\",\"1.5\",\" -2\"\n1, \"7\" ,3,4\n",  // quotes
           "+1,7,+1.5,-2.0\n1.0,7,3.,0.4e1\n",              // signs, points and exponents
           "1e0,7,15E-1,-2e+00\n1,7,03,4\n",
       }) {
    TemporaryFile file(content);
    const auto table = read_mil_csv(file.path());
    ASSERT_EQ(table.bags.size(), 1u) << content;
    EXPECT_TRUE(table.bags[0].instances.equal(expected)) << content;
    EXPECT_THAT(table.bag_ids, ElementsAre("7")) << content;
  }
}

TEST(ReadMilCsv, RoundsOnceToFloat) {
  TemporaryFile file("0,1,0.1,1e-45,3.4028234663852886e38,-0,1e-300,16777217\n");
  const auto values = read_mil_csv(file.path()).bags[0].instances;
  EXPECT_TRUE(
      values.equal(torch::tensor({0.1f, 1e-45f, 3.4028234663852886e38f, -0.0f, 0.0f, 16777216.0f}).view({1, 6})));
  EXPECT_TRUE(std::signbit(values[0][3].item<float>()));
}

TEST(ReadMilCsv, QuotedIdsMayHoldCommas) {
  TemporaryFile file("0,\"a, b\",1\n1,c d,2\n");
  EXPECT_THAT(read_mil_csv(file.path()).bag_ids, ElementsAre("a, b", "c d"));
}

TEST(ReadMilCsv, KeepsTheFilesLabels) {
  TemporaryFile file("-1,1,0\n2.5,2,0\n");
  EXPECT_TRUE(read_mil_csv(file.path()).labels().equal(torch::tensor({-1.0, 2.5}, at::kDouble)));
}

struct DecimalComma : std::numpunct<char> {
  char do_decimal_point() const override { return ','; }
};

TEST(ReadMilCsv, IgnoresTheLocale) {
  const auto before = std::locale::global(std::locale(std::locale(), new DecimalComma));
  TemporaryFile file("0,1,1.5\n");
  const auto value = read_mil_csv(file.path()).bags[0].instances.item<float>();
  std::locale::global(before);
  EXPECT_EQ(value, 1.5f);
}

TEST(ReadMilCsv, ReadsAMillionColumns) {
  std::string content = "1,1";
  for (int i = 0; i < 1000000; ++i) content += ",3";
  TemporaryFile file(content + "\n");
  const auto table = read_mil_csv(file.path());
  EXPECT_EQ(table.features, 1000000);
  EXPECT_EQ(table.bags[0].instances.sum().item<float>(), 3e6f);
}

TEST(ReadMilCsv, KeepsOneCopyInMemory) {
#if defined(__SANITIZE_ADDRESS__) || !defined(__linux__)
  GTEST_SKIP() << "memory is measured on Linux without sanitizers only";
#else
  std::string row = "1,7";
  for (int i = 0; i < 2000; ++i) row += ",0";
  TemporaryFile file(row + "\n", 8000);
  const auto peak = [] {
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    return int64_t{usage.ru_maxrss} * 1024;
  };
  const auto before = peak();
  const auto table = read_mil_csv(file.path());
  EXPECT_EQ(table.bags[0].instances.size(0), 8000);
  EXPECT_LE(peak() - before, 2 * static_cast<int64_t>(std::filesystem::file_size(file.path())) + (16 << 20));
#endif
}

TEST(ReadTableCsv, TakesTheLastColumnForTheLabel) {
  TemporaryFile file("a,b,class\n1,2,0\n3,4,9\n");
  const auto table = read_table_csv(file.path());
  EXPECT_TRUE(table.features.equal(tensor_of({1, 2, 3, 4}, 2)));
  EXPECT_TRUE(table.labels.equal(torch::tensor({0.0, 9.0}, at::kDouble)));
}

TEST(ReadTableCsv, ReadsTheDigits) {
  const auto path = data_path("digits.csv");
  SKIP_WITHOUT(path);
  const auto table = read_table_csv(path);
  EXPECT_THAT(table.features.sizes().vec(), ElementsAre(1797, 64));
  EXPECT_EQ(table.features.min().item<float>(), 0);
  EXPECT_EQ(table.features.max().item<float>(), 16);
  const auto counts = torch::bincount(table.labels.to(at::kLong));
  EXPECT_TRUE(counts.equal(torch::tensor({178, 182, 177, 183, 181, 182, 181, 179, 174, 180}, at::kLong)));
}

struct Benchmark {
  const char* name;
  size_t bags, positive;
  int64_t instances, features;
};

class MilBenchmark : public ::testing::TestWithParam<Benchmark> {};

TEST_P(MilBenchmark, LoadsCompletely) {
  const auto path = data_path(std::string("mil/") + GetParam().name + ".csv");
  SKIP_WITHOUT(path);
  const auto begin = std::chrono::steady_clock::now();
  const auto table = binary_labels(read_mil_csv(path));
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
  int64_t instances = 0;
  for (const auto& bag : table.bags) {
    instances += bag.instances.size(0);
    ASSERT_EQ(bag.instances.size(1), GetParam().features);
    ASSERT_TRUE(bag.instances.isfinite().all().item<bool>());
  }
  EXPECT_EQ(table.bags.size(), GetParam().bags);
  EXPECT_EQ(table.bag_ids.size(), GetParam().bags);
  EXPECT_EQ(static_cast<size_t>(table.labels().sum().item<double>()), GetParam().positive);
  EXPECT_EQ(instances, GetParam().instances);
  EXPECT_EQ(table.features, GetParam().features);
  const auto mebibytes = static_cast<double>(std::filesystem::file_size(path)) / (1 << 20);
  EXPECT_LT(seconds.count(), 1.0 + mebibytes);
  RecordProperty("seconds", std::to_string(seconds.count()));
}

INSTANTIATE_TEST_SUITE_P(Files, MilBenchmark,
                         ::testing::Values(Benchmark{"musk1", 92, 47, 476, 166}, Benchmark{"musk2", 102, 39, 6598, 166},
                                           Benchmark{"elephant", 200, 100, 1391, 230},
                                           Benchmark{"ucsb_breast_cancer", 58, 26, 2002, 708},
                                           Benchmark{"protein", 193, 25, 26611, 9},
                                           Benchmark{"corel_dogs", 2000, 100, 7947, 9},
                                           Benchmark{"birds_brown_creeper", 548, 197, 10232, 38},
                                           Benchmark{"web_recommendation_1", 75, 21, 2212, 5863}),
                         [](const auto& benchmark) { return benchmark.param.name; });

TEST(BinaryLabels, MapsTheSmallerNumberToZero) {
  const auto map = [](const std::vector<double>& labels) { return binary_labels(torch::tensor(labels, at::kDouble)); };
  const auto expected = torch::tensor({0.0, 1.0, 1.0}, at::kDouble);
  EXPECT_TRUE(map({0, 1, 1}).equal(expected));
  EXPECT_TRUE(map({-1, 1, 1}).equal(expected));
  EXPECT_TRUE(map({3, 7.5, 7.5}).equal(expected));
  EXPECT_TRUE(map({-7, -3, -3}).equal(expected));
  EXPECT_TRUE(binary_labels(torch::tensor({1, 2, 2})).equal(expected));
  EXPECT_TRUE(binary_labels(torch::tensor({false, true, true})).equal(expected));
}

TEST(BinaryLabels, ChangesOnlyTheLabelsOfATable) {
  TemporaryFile file("1,a,5\n-1,b,6\n");
  const auto table = binary_labels(read_mil_csv(file.path()));
  EXPECT_EQ(table.bags[0].label, 1);
  EXPECT_EQ(table.bags[1].label, 0);
  EXPECT_EQ(table.bags[1].instances.item<float>(), 6);
  EXPECT_THAT(table.bag_ids, ElementsAre("a", "b"));
}

TEST(BinaryLabels, RefusesOtherThanTwoClasses) {
  const auto message = [](const at::Tensor& labels) { return error_of([&] { binary_labels(labels); }); };
  EXPECT_EQ(message(torch::ones({4})),
            "hopfield::data::binary_labels: expected labels of 2 classes, got 1: every label is 1");
  EXPECT_EQ(message(torch::arange(3)), "hopfield::data::binary_labels: expected labels of 2 classes, got 3");
  EXPECT_EQ(message(torch::empty({0})), "hopfield::data::binary_labels: expected labels of 2 classes, got 0");
  EXPECT_THAT(message(torch::tensor({0.0, std::nan(""), 1.0})),
              ::testing::HasSubstr("without NaN, got one at position 1"));
  EXPECT_THAT(message(torch::ones({2, 2})), ::testing::HasSubstr("of shape [n], got [2, 2]"));
  EXPECT_THAT(message(at::Tensor()), ::testing::HasSubstr("got an undefined tensor"));
}

}  // namespace
}  // namespace hopfield::data
