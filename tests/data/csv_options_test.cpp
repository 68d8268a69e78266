#include "data/temporary_file.h"
#include "support/errors.h"
#include <hopfield/data/csv.h>

#include <torch/types.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

namespace hopfield::data {
namespace {

using ::testing::ElementsAre;
using ::testing::EndsWith;
using testing::error_of;
using ::testing::HasSubstr;

const auto kNaN = std::nan("");

MilTable read(const std::string& content, const CsvOptions& options = {}) {
  TemporaryFile file(content);
  return read_mil_csv(file.path(), options);
}

std::string error_of_content(const std::string& content, const CsvOptions& options = {}) {
  return error_of([&] { read(content, options); });
}

/// All instances, one bag below the other.
std::vector<float> values_of(const MilTable& table) {
  std::vector<at::Tensor> instances;
  for (const auto& bag : table.bags) instances.push_back(bag.instances.flatten());
  const auto all = torch::cat(instances);
  return {all.data_ptr<float>(), all.data_ptr<float>() + all.numel()};
}

std::vector<double> labels_of(const MilTable& table) {
  const auto labels = table.labels();
  return {labels.data_ptr<double>(), labels.data_ptr<double>() + labels.numel()};
}

/// The reader tells rows from names by the number of bags: the rows of this file belong to different bags.
size_t rows_of(const std::string& content, const CsvOptions& options = {}) {
  const auto table = read(content, options);
  return table.bags.size();
}

TEST(CsvHeader, IsTakenFromTheLabel) {
  for (const std::string header : {"label,bag,0,1", "label,bag,402.5,INF", "label,0,0,1", "label,7,x,?", "1st,bag,3,4",
                                   "\"the label\",bag,1,2", " y ,bag,f,f"}) {
    const auto table = read(header + "\n1,a,2,3\n0,b,4,5\n");
    EXPECT_TRUE(table.has_header) << header;
    EXPECT_THAT(values_of(table), ElementsAre(2, 3, 4, 5)) << header;
  }
  for (const std::string row : {"1,a,2,3", "-1,b,2,3", "1e-400,b,2,3", "\"1\",b,2,3"}) {
    EXPECT_FALSE(read(row + "\n1,c,2,3\n").has_header) << row;
  }
}

TEST(CsvHeader, IsNoRowOfMissingOrWrongValues) {
  EXPECT_THAT(error_of_content("?,bag0,?,?\n1,a,2,3\n"), HasSubstr("line 1, column 1: expected a number, got '?'"));
  EXPECT_THAT(error_of_content(",bag0,x,y\n1,a,2,3\n"), HasSubstr("line 1, column 1"));
  EXPECT_THAT(error_of_content("N/A,bag0,x,y\n1,a,2,3\n"), HasSubstr("line 1, column 1"));
  EXPECT_THAT(error_of_content("none,bag0,1,1\n1,a,2,3\n", CsvOptions().missing({"none"})),
              HasSubstr("line 1, column 1"));
  EXPECT_THAT(error_of_content("inf,a,b,c\n1,a,2,3\n"), HasSubstr("line 1, column 1: expected a finite number"));
  EXPECT_THAT(error_of_content("1,a,x,y\n1,a,2,3\n"), HasSubstr("line 1, column 3"));
}

TEST(CsvHeader, CanBeToldOtherwise) {
  EXPECT_EQ(rows_of("0,a,1\n1,b,2\n"), 2u);
  EXPECT_EQ(rows_of("0,a,1\n1,b,2\n", CsvOptions().header(true)), 1u);
  EXPECT_THAT(error_of_content("label,a,1\n1,b,2\n", CsvOptions().header(false)),
              HasSubstr("line 1, column 1: expected a number, got 'label'; CsvOptions::positive names"));
  EXPECT_EQ(rows_of("x,a,1\ny,b,2\n", CsvOptions().positive("z").header(false)), 2u);
}

TEST(CsvHeader, WithTextLabelsIsATextThatDoesNotOccurAgain) {
  const auto options = CsvOptions().positive("yes");
  EXPECT_EQ(rows_of("answer,bag,f\nyes,a,1\nno,b,2\n", options), 2u);
  EXPECT_EQ(rows_of("no,a,1\nyes,b,2\nno,c,3\n", options), 3u);
  EXPECT_EQ(rows_of("yes,a,1\nno,b,2\nno,c,3\n", options), 3u) << "the positive class is no name of a column";
  EXPECT_EQ(rows_of("\"no\",a,1\nyes,b,2\n no ,c,3", options), 3u);
  EXPECT_EQ(rows_of("a,f\nb,1\n", CsvOptions().positive("1").model_features(1)), 1u);
  // The reader searches the file first, and then reads it again from the beginning.
  EXPECT_THAT(labels_of(read("\xEF\xBB\xBFwhat,bag,f\nno,a,1\nyes,b,2\n", options)), ElementsAre(0, 1));
}

TEST(CsvNumbers, TooSmallOnesAreZero) {
  const auto values =
      values_of(read("0,a,1e-400,-1e-400,2e-324,1e-99999999999999999999,+1E-400,0.0001e-330,12e-400\n"));
  for (const auto value : values) EXPECT_EQ(value, 0);
  EXPECT_TRUE(std::signbit(values[1]));
  EXPECT_FALSE(std::signbit(values[0]));
  EXPECT_THAT(values_of(read("0,a,0." + std::string(400, '0') + "1,1" + std::string(400, '0') + "e-400\n")),
              ElementsAre(0, 1));
  EXPECT_THAT(labels_of(read("1e-400,a,1\n1,b,1\n")), ElementsAre(0, 1));
  for (const std::string& large :
       std::vector<std::string>{"1e400", "-1e400", "1e99999999999999999999", "0.001e400", "1" + std::string(400, '0'),
                                "1" + std::string(400, '0') + ".5", "0.1e+310"}) {
    EXPECT_THAT(error_of_content("0,a," + large + "\n"), HasSubstr("expected a finite number")) << large;
  }
}

TEST(CsvDelimiter, IsFound) {
  for (const std::string content :
       {"1;a;2;3\n0;b;4;5\n", "1\ta\t2\t3\n0\tb\t4\t5\n", "label;bag;size, mm;weight, g, net\n1;a;2;3\n0;b;4;5\n",
        "\"a;b;c;d;e\",bag,f,f\n1,a,2,3\n0,b,4,5", "1,a;x;y;z;z,2,3\n0,b,4,5\n", "1,\ta,\t2,\t3\n0,\tb,\t4,\t5\n",
        "1\t a \t2\t3\r\n0\tb\t4\t5\r\n", "\xEF\xBB\xBFlabel;bag;f;f\n1;a;2;3\n0;b;4;5\n"}) {
    const auto table = read(content);
    EXPECT_THAT(values_of(table), ElementsAre(2, 3, 4, 5)) << content;
    EXPECT_THAT(labels_of(table), ElementsAre(1, 0)) << content;
  }
}

TEST(CsvDelimiter, CanBeTold) {
  EXPECT_THAT(values_of(read("1|a|2|3\n", CsvOptions().delimiter('|'))), ElementsAre(2, 3));
  EXPECT_THAT(values_of(read("1 a 2 3\n", CsvOptions().delimiter(' '))), ElementsAre(2, 3));
  EXPECT_THAT(read("1;a,b;2\n", CsvOptions().delimiter(';')).bag_ids, ElementsAre("a,b"));
  EXPECT_THAT(error_of_content("1,a,2\n", CsvOptions().delimiter(';')),
              HasSubstr("got 1; CsvOptions::delimiter names"));
  for (const char wrong : {'"', '.', '-', '+', 'e', '1', '\n', '\r', '\0', '\x80'}) {
    EXPECT_THAT(error_of_content("1,a,2\n", CsvOptions().delimiter(wrong)),
                HasSubstr("expected CsvOptions::delimiter to be"));
  }
}

TEST(CsvDelimiter, EmptyCellsBetweenTabsAreCells) {
  const auto table = read("1\ta\t\t3\n0\tb\t4\t\n", CsvOptions().missing({"NA"}));
  EXPECT_THAT(values_of(table), ElementsAre(::testing::IsNan(), 3, 4, ::testing::IsNan()));
}

TEST(CsvQuotes, DoubledOnesStandForOne) {
  const auto table = read("1,\"a \"\"b\"\"\",2\n\"0\",\"\"\"\",\"3\"\n1,\"\"\"x, y\"\"\",4\n");
  EXPECT_THAT(table.bag_ids, ElementsAre("a \"b\"", "\"", "\"x, y\""));
  const auto both = read("\"say \"\"yes\"\"\",\"\"\"id\"\"\",1\nno,b,2\n", CsvOptions().positive("say \"yes\""));
  EXPECT_THAT(both.label_texts, ElementsAre("say \"yes\"", "no"));
  EXPECT_THAT(both.bag_ids, ElementsAre("\"id\"", "b"));
  EXPECT_THAT(error_of_content("1,\"a\nb\",2\n"),
              HasSubstr("line 1, column 2: expected a closing quote on the same line"));
}

TEST(CsvMissing, AreNaN) {
  const auto isNan = ::testing::IsNan();
  EXPECT_THAT(values_of(read("1,a,NA,?\n0,b,,\" \"\n", CsvOptions().missing({"NA", "?"}))),
              ElementsAre(isNan, isNan, isNan, isNan));
  EXPECT_THAT(values_of(read("1,a,,2\n", CsvOptions().missing({""}))), ElementsAre(isNan, 2));
  EXPECT_THAT(values_of(read("1,a,-999,2,-999.0,-9.99e2,-99\n", CsvOptions().missing({"-999"}))),
              ElementsAre(isNan, 2, isNan, isNan, -99));
  EXPECT_THAT(values_of(read("1,a,nan,inf\n", CsvOptions().missing({"nan", "inf"}))), ElementsAre(isNan, isNan));
  // Rows may be as short as their delimiters.
  EXPECT_EQ(read("1,a,,,,\n1,a,,,,\n1,a,,,,", CsvOptions().missing({""})).bags[0].instances.size(0), 3);
}

TEST(CsvMissing, OthersAreErrorsThatNameTheOption) {
  for (const std::string mark : {"", "?", "NA", "n/a", "NaN", "null", "."}) {
    EXPECT_THAT(error_of_content("1,a,2\n1,a," + mark + "\n"),
                EndsWith("; CsvOptions::missing names marks of missing values"));
  }
  EXPECT_THAT(error_of_content("1,a,2\n1,a,na\n", CsvOptions().missing({"NA"})), HasSubstr("got 'na'"));
  EXPECT_THAT(error_of_content("1,a,2\n?,a,2\n", CsvOptions().missing({"?"})), HasSubstr("expected a label, got '?'"));
  EXPECT_THAT(error_of_content("1,a,2\n1,?,2\n,a,3\n", CsvOptions().missing({"?"})), HasSubstr("line 3, column 1"));
}

TEST(CsvMissing, HoldsForTablesToo) {
  TemporaryFile file("a,b,class\n1,?,yes\n,4,no\n");
  const auto table = read_table_csv(file.path(), CsvOptions().missing({"?"}).positive("yes"));
  EXPECT_TRUE(table.features.isnan().equal(torch::tensor({{false, true}, {true, false}})));
  EXPECT_TRUE(table.labels.equal(torch::tensor({1.0, 0.0}, at::kDouble)));
}

TEST(CsvPositive, TextsBecomeOneAndZero) {
  const auto table = read("type,bag,f\nbenign,a,1\nmalignant,b,2\nbenign,c,3\n", CsvOptions().positive("malignant"));
  EXPECT_THAT(labels_of(table), ElementsAre(0, 1, 0));
  EXPECT_THAT(table.label_texts, ElementsAre("benign", "malignant", "benign"));
  EXPECT_THAT(labels_of(read("0,a,1\n1,b,2\n2.0,c,3\n", CsvOptions().positive("2"))), ElementsAre(0, 0, 1));
  EXPECT_THAT(error_of_content("yes,a,1\nyes,a,2\nno,a,2\n", CsvOptions().positive("yes")),
              HasSubstr("line 3, column 1: expected the label 'yes' like the rows of bag 'a' before, got 'no'"));
  EXPECT_THAT(error_of_content("yes,a,1\n?,b,2\n", CsvOptions().positive("yes")),
              HasSubstr("expected a label, got '?'"));
}

TEST(CsvPositive, SpellingsOfANumberAreOneLabel) {
  const auto table = read("1,a,1\n1.0,a,2\n+1e0,a,3\n");
  EXPECT_EQ(table.bags.size(), 1u);
  EXPECT_THAT(table.label_texts, ElementsAre("1"));
}

TEST(CsvForModels, LabelsMayBeMissing) {
  const auto options = CsvOptions().model_features(2);
  const auto isNan = ::testing::IsNan();
  EXPECT_THAT(labels_of(read("1,a,2,3\n,b,4,5\n?,c,6,7\n", options)), ElementsAre(1, isNan, isNan));
  EXPECT_THAT(read("1,a,2,3\n,b,4,5\n?,c,6,7\n", options).label_texts, ElementsAre("1", "", "?"));
  const auto unlabelled = read("a,2,3\nb,4,5\na,6,7\n", options);
  EXPECT_THAT(labels_of(unlabelled), ElementsAre(isNan, isNan));
  EXPECT_THAT(unlabelled.bag_ids, ElementsAre("a", "b"));
  EXPECT_THAT(values_of(unlabelled), ElementsAre(2, 3, 6, 7, 4, 5));
  EXPECT_THAT(error_of_content("1,a,2,3\n,a,4,5\n", options),
              HasSubstr("expected the label '1' like the rows of bag 'a'"));
  EXPECT_THAT(error_of_content(",2,3\n", options), HasSubstr("column 1: expected a bag id"));
}

TEST(CsvForModels, NamesWithoutALabelAreFound) {
  const auto options = CsvOptions().model_features(3);
  for (const std::string names : {"bag,x,y,z", "bag,0,1,2", "bag,1,2,3", "id,\"x\",y,z"}) {
    EXPECT_EQ(rows_of(names + "\na,2,3,4\nb,4,5,6\n", options), 2u) << names;
  }
  for (const std::string row : {"c,0,1,1", "7,0,1,2", "c,5,6,7"}) {
    EXPECT_EQ(rows_of(row + "\na,2,3,4\nb,4,5,6\n", options), 3u) << row;
  }
  EXPECT_THAT(error_of_content("c,0.5,x,1\n", options), HasSubstr("got 'x'; CsvOptions::header tells whether"));
  EXPECT_EQ(rows_of("bag,402.5,403.5,404.5\na,2,3,4\n", CsvOptions().model_features(3).header(true)), 1u);
  EXPECT_EQ(rows_of("c,0,1\na,2,3\n", CsvOptions().model_features(2)), 2u);
}

TEST(CsvForModels, OtherColumnsAreRefused) {
  const auto options = CsvOptions().model_features(3);
  for (const std::string row : {"1,a,2,3,4,5", "a,2", "1"}) {
    EXPECT_THAT(error_of_content(row + "\n", options),
                HasSubstr("expected 5 columns (bag label, bag id, features..., with 3 features), or 4 without labels, "
                          "got "));
  }
}

TEST(CsvForModels, LabelsInPlaceOfAFeatureShow) {
  EXPECT_THAT(
      error_of_content("1,a,2,3\n", CsvOptions().model_features(3)),
      HasSubstr("line 1, column 2: expected a number, got 'a'; 4 columns are read as 3 features without labels"));
}

TEST(CsvFormats, OthersAreNamed) {
  const auto is_named = [](const std::string& content, const std::string& name) {
    EXPECT_THAT(error_of_content(content), HasSubstr(": expected text in UTF-8, got " + name)) << name;
  };
  using namespace std::string_literals;
  is_named(
      "\xFF\xFE"
      "1\0,\0a\0,\0"
      "2\0\n\0"s,
      "UTF-16");
  is_named(
      "\xFE\xFF\0"
      "1\0,\0a\0,\0"
      "2\0\n"s,
      "UTF-16");
  is_named(
      "1\0,\0a\0,\0"
      "2\0\n\0"s,
      "UTF-16");
  is_named(
      "\0"
      "1\0,\0a\0,\0"
      "2\0\n"s,
      "UTF-16");
  is_named(
      "\xFF\xFE\0\0"
      "1\0\0\0"s,
      "UTF-32");
  is_named("\x1F\x8B\x08\0\0\0"s, "a gzip file; unpack it");
  is_named("BZh91AY&SY...", "a bzip2 file");
  is_named(
      "\xFD"
      "7zXZ\0.."s,
      "an xz file");
  is_named("\x28\xB5\x2F\xFD..", "a zstd file");
  is_named("PK\x03\x04..", "a zip archive or a spreadsheet");
  is_named("\xD0\xCF\x11\xE0..", "a spreadsheet");
}

TEST(CsvFormats, LatinOneIsReadAsItIs) { EXPECT_THAT(read("1,M\xFCller,2\n").bag_ids, ElementsAre("M\xFCller")); }

}  // namespace
}  // namespace hopfield::data
