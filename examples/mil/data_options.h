#pragma once

#include <hopfield/hopfield.h>

#include <optional>
#include <string>

namespace CLI {
class App;
}

namespace hopfield::mil {

/// How a CSV file is written, as the command line says it.
struct DataOptions {
  std::string header = "auto", delimiter = "auto";
  std::optional<std::string> missing, positive;
};

/// Adds --header, --delimiter, --missing and --positive, of training or of a subcommand.
void add_data_options(CLI::App& app, DataOptions& options);

/// Bags to train on, with labels 0 and 1. @throws UsageError if they cannot be read or are not of two classes.
data::MilTable read_training_bags(const std::string& path, const DataOptions& options);

/// Bags for a model of so many features, with the file's labels, NaN where there are none. @throws UsageError
data::MilTable read_bags_to_score(const std::string& path, const DataOptions& options, int64_t features);

/// What a reader of the results should know about the file: values that are missing, a header that was skipped. Begins
/// with a comma unless it is empty.
std::string table_notes(const data::MilTable& table);

}  // namespace hopfield::mil
