#pragma once

#include <hopfield/hopfield.h>

#include <optional>
#include <string>

namespace CLI {
class App;
}

namespace hopfield::mil {

/// How a CSV file is written: the values of the options that add_data_options() adds.
struct DataOptions {
  std::string header = "auto", delimiter = "auto";
  std::optional<std::string> missing, positive;
};

/// Adds --header, --delimiter, --missing and --positive to the program or to one of its commands.
void add_data_options(CLI::App& app, DataOptions& options);

/// Reads bags to train on, with labels 0 and 1. @throws UsageError if they cannot be read or are not of two classes.
data::MilTable read_training_bags(const std::string& path, const DataOptions& options);

/// Reads bags for a model with this number of features. Labels are as in the file, and NaN where it has none.
/// @throws UsageError if the bags cannot be read
data::MilTable read_bags_to_score(const std::string& path, const DataOptions& options, int64_t features);

/// Remarks on the file for those who read the results: missing values, and a header that was skipped. The text begins
/// with a comma unless it is empty.
std::string table_notes(const data::MilTable& table);

}  // namespace hopfield::mil
