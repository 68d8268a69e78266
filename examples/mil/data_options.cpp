#include "data_options.h"

#include "common/text.h"
#include "options.h"

#include <ATen/ATen.h>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include <map>
#include <set>

namespace hopfield::mil {
namespace {

const std::map<std::string, std::optional<char>> kDelimiters{{"auto", std::nullopt}, {"comma", ','}, {"semicolon", ';'},
                                                             {"tab", '\t'},          {"\\t", '\t'},  {"space", ' '}};

std::string check_delimiter(const std::string& text) {
  const bool is_sign =
      text.size() == 1 && std::string("!#$%&'()*,/:;<=>?@[\\]^_`{|}~ \t").find(text) != std::string::npos;
  if (is_sign || kDelimiters.count(text) == 1) return "";
  return "expected tab, space or a sign that numbers and quotes do not need, got " + examples::quote(text);
}

std::string check_header(const std::string& text) {
  return text == "yes" || text == "no" || text == "auto" ? ""
                                                         : "expected yes, no or auto, got " + examples::quote(text);
}

std::string check_positive(const std::string& text) {
  return text.empty() ? "expected a label, got an empty text" : "";
}

/// Splits the value of --missing: "NA, ?" are two marks. Blanks around a mark are removed, as they are around cells.
std::vector<std::string> split_marks(const std::string& text) {
  std::vector<std::string> marks;
  for (size_t begin = 0; begin <= text.size();) {
    const auto end = std::min(text.find(',', begin), text.size());
    marks.push_back(CLI::detail::trim_copy(text.substr(begin, end - begin)));
    begin = end + 1;
  }
  return marks;
}

data::CsvOptions csv_options(const DataOptions& options) {
  data::CsvOptions csv;
  if (options.header != "auto") csv.header(options.header == "yes");
  const auto known = kDelimiters.find(options.delimiter);
  csv.delimiter(known != kDelimiters.end() ? known->second : options.delimiter.front());
  if (options.missing) csv.missing(split_marks(*options.missing));
  if (options.positive) csv.positive(CLI::detail::trim_copy(*options.positive));
  return csv;
}

/// Replaces the names of the library's options in an error message: CsvOptions::positive is --positive here.
std::string with_our_options(std::string message) {
  const std::string option = "CsvOptions::";
  for (size_t at = 0; (at = message.find(option, at)) != std::string::npos;) message.replace(at, option.size(), "--");
  return message;
}

data::MilTable read(const std::string& path, const data::CsvOptions& options) {
  try {
    return reading("--data", [&] { return data::read_mil_csv(path, options); });
  } catch (const UsageError& error) {
    throw UsageError{with_our_options(error.message)};
  }
}

/// The labels of a table in words: "'benign', 'malignant' and 3 more".
std::string name_labels(const data::MilTable& table) {
  constexpr size_t kNamed = 4;
  const std::set<std::string> labels(table.label_texts.begin(), table.label_texts.end());
  std::vector<std::string> quoted;
  for (const auto& label : labels) {
    if (quoted.size() < kNamed) quoted.push_back(examples::quote(label));
  }
  const auto others = labels.size() - quoted.size();
  return examples::joined(quoted) + (others > 0 ? fmt::format(" and {} more", others) : "");
}

/// @throws UsageError unless the labels are of exactly two classes
void check_classes(const data::MilTable& table, const std::string& path, const DataOptions& options) {
  const auto labels = table.labels();
  const std::set<double> classes(labels.data_ptr<double>(), labels.data_ptr<double>() + labels.numel());
  if (classes.size() == 2) return;
  if (options.positive) {
    throw UsageError{
        fmt::format("--positive: expected a label that some bags have and others have not, got {}; the labels are {}",
                    examples::quote(*options.positive), name_labels(table))};
  }
  throw UsageError{fmt::format("--data: expected bags of 2 classes in {}, got {} {}: {}{}", examples::quote(path),
                               classes.size(), classes.size() == 1 ? "class" : "classes", name_labels(table),
                               classes.size() > 2 ? "; --positive LABEL takes one of them against all others" : "")};
}

/// The number of missing values, and of features that have no value at all.
struct Missing {
  int64_t values = 0, empty_features = 0;
};

Missing count_missing(const data::MilTable& table) {
  Missing missing;
  auto present = at::zeros({table.features}, at::kBool);
  for (const auto& bag : table.bags) {
    const auto absent = bag.instances.isnan();
    missing.values += absent.sum().item<int64_t>();
    present.logical_or_(absent.logical_not().any(0));
  }
  missing.empty_features = table.features - present.sum().item<int64_t>();
  return missing;
}

}  // namespace

void add_data_options(CLI::App& app, DataOptions& options) {
  app.add_option("--header", options.header,
                 "Whether the file's first row holds names: yes, no or auto, which looks at its label")
      ->check(CLI::Validator(check_header, ""));
  app.add_option("--delimiter", options.delimiter, "Character between cells: ',', ';', tab, ...; auto finds it")
      ->check(CLI::Validator(check_delimiter, ""));
  // By a function and not straight into the variable, because CLI11 would treat an empty text as no value.
  const auto set_missing = [&options](const std::string& text) { options.missing = text; };
  app.add_option_function<std::string>(
         "--missing", set_missing,
         "Marks of missing values, such as 'NA,?'; empty cells count, too. The training mean replaces them")
      ->join(',');
  const auto set_positive = [&options](const std::string& text) { options.positive = text; };
  app.add_option_function<std::string>("--positive", set_positive,
                                       "The positive class where labels are text, or more than two numbers")
      ->check(CLI::Validator(check_positive, ""));
}

data::MilTable read_training_bags(const std::string& path, const DataOptions& options) {
  auto table = read(path, csv_options(options));
  check_classes(table, path, options);
  return data::binary_labels(std::move(table));
}

data::MilTable read_bags_to_score(const std::string& path, const DataOptions& options, int64_t features) {
  return read(path, csv_options(options).model_features(features));
}

std::string table_notes(const data::MilTable& table) {
  const auto counted = [](int64_t count, const char* what) {
    return fmt::format("{} {}{}", count, what, count == 1 ? "" : "s");
  };
  std::string notes;
  if (const auto missing = count_missing(table); missing.values > 0) {
    notes += ", " + counted(missing.values, "value") + " missing";
    if (missing.empty_features > 0) notes += " (" + counted(missing.empty_features, "feature") + " without any)";
  }
  return notes + (table.has_header ? ", the first row taken for names" : "");
}

}  // namespace hopfield::mil
