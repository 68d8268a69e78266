#include "data/temporary_file.h"
#include "support/errors.h"
#include <hopfield/data/csv.h>

#include <torch/types.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

namespace hopfield::data {
namespace {

using testing::error_of;
using ::testing::HasSubstr;
using ::testing::StartsWith;

template <typename Table>
std::string error_of(Table (*read)(const std::string&, const CsvOptions&), const std::string& path) {
  return error_of([&] { read(path, {}); });
}

struct Malformed {
  std::string content, error;
};

template <typename Table>
void expect_errors(const std::string& function, Table (*read)(const std::string&, const CsvOptions&),
                   const std::vector<Malformed>& cases) {
  for (const auto& [content, error] : cases) {
    TemporaryFile file(content);
    EXPECT_EQ(error_of(read, file.path()), function + ": " + file.path() + error) << content.substr(0, 80);
  }
}

const std::string kNul(1, '\0');

TEST(MalformedCsv, MilReaderNamesThePlace) {
  const std::string layout = " columns (bag label, bag id, features...), got ";
  const std::string delimiter = "; CsvOptions::delimiter names the character between cells";
  const std::string header = "; CsvOptions::header tells whether the first row holds names";
  const std::string missing = "; CsvOptions::missing names marks of missing values";
  const std::string positive = "; CsvOptions::positive names the positive class of labels that are text";
  expect_errors(
      "hopfield::data::read_mil_csv", &read_mil_csv,
      {
          {"", ": expected at least one row, got an empty file"},
          {"\n", ", line 1: expected at least one row, got an empty file"},
          {"\n\r\n \t\n", ", line 3: expected at least one row, got an empty file"},
          {"\xEF\xBB\xBF", ", line 1: expected at least one row, got an empty file"},
          {"\xEF\xBB\xBF\r\n", ", line 1: expected at least one row, got an empty file"},
          {"label,bag,f1\n", ", line 1: expected at least one row below the header, got the end of the file"},
          {"label,bag,f1\n\n\n", ", line 3: expected at least one row below the header, got the end of the file"},
          {"1\n", ", line 1: expected at least 3" + layout + "1" + delimiter},
          {"1,2\n", ", line 1: expected at least 3" + layout + "2"},
          {"1 2 3\n", ", line 1: expected at least 3" + layout + "1" + delimiter},
          {"label,bag\n1,1,2\n", ", line 1: expected at least 3" + layout + "2"},
          {"\n1,1,2\n", ", line 1: expected empty lines only at the end of the file, got one before a filled line"},
          {"1,1,2\n\n1,1,2\n",
           ", line 2: expected empty lines only at the end of the file, got one before a filled line"},
          {"1,1,2\n \r\n\n1,1,2\n",
           ", line 2: expected empty lines only at the end of the file, got one before a filled line"},
          {"a,b,c\n\n1,1,2\n",
           ", line 2: expected empty lines only at the end of the file, got one before a filled line"},
          {"1,1,2\n1,1\n", ", line 2: expected 3 columns like the first line, got 2"},
          {"1,1,2\n1,1,2,3\n", ", line 2: expected 3 columns like the first line, got 4"},
          {"1,1,2\n1,1,2,\n",
           ", line 2: expected 3 columns like the first line, got 4; the line ends with a delimiter"},
          {"1,1,2\n1,1,2\n7", ", line 3: expected 3 columns like the first line, got 1"},
          {"a,b,c,d\n1,1,2\n", ", line 2: expected 4 columns like the first line, got 3"},
          {"1,1,2\n1,\"1,2\"\n", ", line 2: expected 3 columns like the first line, got 2"},
          {"1,1,2,\n", ", line 1, column 4: expected a number, got an empty cell" + missing},
          {"1,1,,2\n", ", line 1, column 3: expected a number, got an empty cell" + missing},
          {"1,1,,,,,,\n", ", line 1, column 3: expected a number, got an empty cell" + missing},
          {",1,2\n", ", line 1, column 1: expected a number, got an empty cell; labels cannot be missing"},
          {"1,,2\n", ", line 1, column 2: expected a bag id, got an empty cell"},
          {"1,\" \",2\n", ", line 1, column 2: expected a bag id, got an empty cell"},
          {"1,1,2\n1,1,x\n", ", line 2, column 3: expected a number, got 'x'"},
          {"yes,1,2\n", ", line 1: expected at least one row below the header, got the end of the file"},
          {"yes,1,2\nno,2,2\n", ", line 2, column 1: expected a number, got 'no'" + positive},
          {"a,b,c\nd,e,f\n", ", line 2, column 1: expected a number, got 'd'" + positive},
          {"?,bag0,?\n1,1,2\n", ", line 1, column 1: expected a number, got '?'; labels cannot be missing"},
          {"na,bag0,x\n1,1,2\n", ", line 1, column 1: expected a number, got 'na'; labels cannot be missing"},
          {"0,5;b;1\n1;b;2\n", ", line 1, column 1: expected a number, got '0,5'; write numbers with a decimal point"},
          {"1;b;0,5\n1;b;2\n", ", line 1, column 3: expected a number, got '0,5'; write numbers with a decimal point"},
          {"1\tb\t0,5\n", ", line 1, column 3: expected a number, got '0,5'; write numbers with a decimal point"},
          {"1,b,\"0,5\"\n", ", line 1, column 3: expected a number, got '0,5'; write numbers with a decimal point"},
          {"1,1,1.5x\n", ", line 1, column 3: expected a number, got '1.5x'" + header},
          {"1,1,1 5\n", ", line 1, column 3: expected a number, got '1 5'" + header},
          {"1,1,0x10\n", ", line 1, column 3: expected a number, got '0x10'" + header},
          {"1,1,1e\n", ", line 1, column 3: expected a number, got '1e'" + header},
          {"1,1,--1\n", ", line 1, column 3: expected a number, got '--1'" + header},
          {"1,1,+-1\n", ", line 1, column 3: expected a number, got '+-1'" + header},
          {"1,1,++1\n", ", line 1, column 3: expected a number, got '++1'" + header},
          {"1,1,+\n", ", line 1, column 3: expected a number, got '+'" + header},
          {"1,1,.\n", ", line 1, column 3: expected a number, got '.'" + missing},
          {"1,1,1.2.3\n", ", line 1, column 3: expected a number, got '1.2.3'" + header},
          {"1,1,?\n", ", line 1, column 3: expected a number, got '?'" + missing},
          {"1,1,1'000\n", ", line 1, column 3: expected a number, got '1'000'" + header},
          {"1,1,NA\n", ", line 1, column 3: expected a number, got 'NA'" + missing},
          {"1,1,\xC3\xA9\n", ", line 1, column 3: expected a number, got '\\xc3\\xa9'" + header},
          {"1,1,2\r1,1,3\r", ", line 1: expected lines that end with LF or CRLF, got a lone carriage return"},
          {"label,bag,f\r1,1,3\r", ", line 1: expected lines that end with LF or CRLF, got a lone carriage return"},
          {"1,1,nan\n", ", line 1, column 3: expected a finite number, got 'nan'" + missing},
          {"nan,nan,nan\n", ", line 1, column 1: expected a finite number, got 'nan'; labels cannot be missing"},
          {"1,1,-NaN\n", ", line 1, column 3: expected a finite number, got '-NaN'" + header},
          {"1,1,inf\n", ", line 1, column 3: expected a finite number, got 'inf'" + header},
          {"1,1,-Infinity\n", ", line 1, column 3: expected a finite number, got '-Infinity'" + header},
          {"1,1,1e400\n", ", line 1, column 3: expected a finite number, got '1e400'" + header},
          {"1e400,1,1\n", ", line 1, column 1: expected a finite number, got '1e400'"},
          {"1,1,1e39\n", ", line 1, column 3: expected a number within the range of float32, got 1e+39"},
          {"1,1,-3.5e38\n", ", line 1, column 3: expected a number within the range of float32, got -3.5e+38"},
          {"1,1,2" + kNul + "\n", ", line 1: expected text, got a NUL byte"},
          {"1,1,2\n1," + kNul + ",2\n", ", line 2: expected text, got a NUL byte"},
          {kNul, ", line 1: expected text, got a NUL byte"},
          {"1,1,\"2\n", ", line 1, column 3: expected a closing quote on the same line, got '\"2'"},
          {"1,1,\"2\n3\"\n", ", line 1, column 3: expected a closing quote on the same line, got '\"2'"},
          {"1,1,\"", ", line 1, column 3: expected a closing quote on the same line, got '\"'"},
          {"1,1,\"2\"3\n", ", line 1, column 3: expected a delimiter after the closing quote, got '3'"},
          {"1,\"a\"\"b,2\n", ", line 1, column 2: expected a closing quote on the same line, got '\"a\"\"b,2'"},
          {"1,1,2\"\n", ", line 1, column 3: expected a number, got '2\"'" + header},
          {"1,1,\"\"\n", ", line 1, column 3: expected a number, got an empty cell" + missing},
          {"1,a,2\n0,b,2\n0,a,2\n",
           ", line 3, column 1: expected the label '1' like the rows of bag 'a' before, got '0'"},
          {"1,1," + std::string(100, '9') + "x\n",
           ", line 1, column 3: expected a number, got '" + std::string(40, '9') + "...'" + header},
      });
}

TEST(MalformedCsv, TableReaderNamesThePlace) {
  expect_errors("hopfield::data::read_table_csv", &read_table_csv,
                {
                    {"", ": expected at least one row, got an empty file"},
                    {"5\n",
                     ", line 1: expected at least 2 columns (features..., label), got 1; CsvOptions::delimiter names "
                     "the character between cells"},
                    {"a,b\n", ", line 1: expected at least one row below the header, got the end of the file"},
                    {"1,2\n1\n", ", line 2: expected 2 columns like the first line, got 1"},
                    {"1,2\n1,2,3\n", ", line 2: expected 2 columns like the first line, got 3"},
                    {"1,\n", ", line 1, column 2: expected a number, got an empty cell; labels cannot be missing"},
                    {"1,2\n1,spam\n",
                     ", line 2, column 2: expected a number, got 'spam'; CsvOptions::positive names the positive class "
                     "of labels that are text"},
                    {"1,inf\n", ", line 1, column 2: expected a finite number, got 'inf'"},
                    {"1e50,0\n", ", line 1, column 1: expected a number within the range of float32, got 1e+50"},
                    {"1,2" + kNul + "\n", ", line 1: expected text, got a NUL byte"},
                    {"1,\"2\n", ", line 1, column 2: expected a closing quote on the same line, got '\"2'"},
                });
}

TEST(MalformedCsv, PathsThatAreNoFiles) {
  const std::string missing = ::testing::TempDir() + "hopfield.no_such_file.csv";
  EXPECT_EQ(error_of(read_mil_csv, missing),
            "hopfield::data::read_mil_csv: expected a file at '" + missing + "', got nothing there; check the path");
  EXPECT_THAT(error_of(read_table_csv, missing), StartsWith("hopfield::data::read_table_csv: expected a file at '"));
  EXPECT_THAT(error_of(read_mil_csv, ""), HasSubstr("got nothing there"));
  EXPECT_THAT(error_of(read_mil_csv, missing + "/deeper"), HasSubstr("got nothing there"));
  EXPECT_THAT(error_of(read_mil_csv, std::string(100000, 'x')), HasSubstr("got nothing there"));
  EXPECT_THAT(error_of(read_mil_csv, ::testing::TempDir()), HasSubstr("got a folder"));
  if (std::filesystem::exists("/dev/zero")) {
    EXPECT_THAT(error_of(read_mil_csv, "/dev/zero"), HasSubstr("got a device or pipe"));
  }
}

TEST(MalformedCsv, WideAndLongCells) {
  const std::string many(1 << 20, ',');
  TemporaryFile commas(many);
  EXPECT_THAT(error_of(read_mil_csv, commas.path()),
              HasSubstr("line 1, column 1: expected a number, got an empty cell"));
  TemporaryFile digits("0,1," + std::string(1 << 20, '1') + "\n");
  EXPECT_THAT(error_of(read_mil_csv, digits.path()), HasSubstr("line 1, column 3: expected a finite number"));
}

/// Whether the file can be read. Otherwise the c10::Error must name the file.
template <typename Read>
bool loads(const Read& read, const std::string& path) {
  try {
    read(path);
    return true;
  } catch (const c10::Error& error) {
    const std::string message = error.what_without_backtrace();
    EXPECT_THAT(message, ::testing::AllOf(StartsWith("hopfield::data::read_"), HasSubstr(path),
                                          HasSubstr(": expected "), HasSubstr(", got ")));
    return false;
  }
}

void read_and_check_mil(const std::string& path) {
  const auto table = read_mil_csv(path);
  ASSERT_FALSE(table.bags.empty());
  ASSERT_EQ(table.bags.size(), table.bag_ids.size());
  for (const auto& bag : table.bags) {
    ASSERT_EQ(bag.instances.size(1), table.features);
    ASSERT_GE(bag.instances.size(0), 1);
    ASSERT_TRUE(bag.instances.isfinite().all().item<bool>());
    ASSERT_TRUE(std::isfinite(bag.label));
  }
}

void read_and_check_table(const std::string& path) {
  const auto table = read_table_csv(path);
  ASSERT_GE(table.features.size(0), 1);
  ASSERT_EQ(table.features.size(0), table.labels.size(0));
  ASSERT_TRUE(table.features.isfinite().all().item<bool>());
  ASSERT_TRUE(table.labels.isfinite().all().item<bool>());
}

/// With all options at once: text labels, values and labels that are missing.
void read_and_check_with_options(const std::string& path) {
  const auto table = read_mil_csv(path, CsvOptions().positive("1").missing({"?", "-1"}).model_features(2));
  ASSERT_EQ(table.bags.size(), table.label_texts.size());
  for (const auto& bag : table.bags) {
    ASSERT_EQ(bag.instances.size(1), 2);
    ASSERT_FALSE(bag.instances.isinf().any().item<bool>());
    ASSERT_TRUE(bag.label == 0 || bag.label == 1 || std::isnan(bag.label));
  }
}

std::string mutated(std::string text, std::mt19937_64& engine) {
  const std::vector<std::string> pieces{
      ",",    "\n", "\r\n",   "\"",           " ",   "\t",   "-", "+",
      "e",    ".",  "1e400",  "nan",          "inf", ";",    "?", "NA",
      "\"\"", ",,", "1e-400", "\xEF\xBB\xBF", kNul,  "\xFF", "0", "99999999999999999999",
      "\n\n", "a"};
  const auto below = [&](size_t bound) { return static_cast<size_t>(engine() % bound); };
  for (size_t changes = 1 + below(4); changes > 0; --changes) {
    const auto at = below(text.size() + 1);
    switch (below(5)) {
      case 0:
        text.insert(at, pieces[below(pieces.size())]);
        break;
      case 1:
        text.erase(at, 1 + below(8));
        break;
      case 2:
        text.resize(at);
        break;
      case 3:
        text.insert(at, text.substr(below(text.size() + 1), below(20)));
        break;
      default:
        if (at < text.size()) text[at] = static_cast<char>(engine());
    }
  }
  return text;
}

TEST(MalformedCsv, MutationsThrowOrLoad) {
  const std::string seed_file = "label,bag,f1,\"f,2\"\n1,a,0.5,-1\n1, a ,+2e3,\"4\"\r\n0,b,1e-3,7\n0,\"c,d\",0,0\n";
  constexpr int kRounds = 4000;
  std::mt19937_64 engine(20210503);
  int loaded = 0;
  for (int round = 0; round < kRounds; ++round) {
    TemporaryFile file(mutated(seed_file, engine));
    loaded += loads(read_and_check_mil, file.path());
    loaded += loads(read_and_check_table, file.path());
    loads(read_and_check_with_options, file.path());
    if (HasFailure()) FAIL() << "in round " << round;
  }
  EXPECT_GT(loaded, kRounds / 100);  // both outcomes must be exercised
  EXPECT_LT(loaded, kRounds);
}

TEST(MalformedCsv, TruncatedAtEveryByte) {
  const std::string whole = "\xEF\xBB\xBFlabel,bag,f\r\n1,a,0.5\r\n0,\"b\",-1e2\r\n";
  for (size_t size = 0; size <= whole.size(); ++size) {
    TemporaryFile file(whole.substr(0, size));
    loads(read_and_check_mil, file.path());
  }
}

}  // namespace
}  // namespace hopfield::data
