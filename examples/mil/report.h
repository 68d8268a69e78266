#pragma once

#include "cross_validation.h"

#include <string>
#include <vector>

namespace hopfield::mil {

/// The data and the options that the results depend on, as JSON. By it a checkpoint is recognised.
std::string describe_run(const data::MilTable& table, const TrainOptions& options);

/// The lines that the program prints, such as "hopfield 0.1.0, LibTorch 2.11.0, device cpu, threads 2, seed 0".
std::string first_line(const TrainOptions& options);
std::string table_line(const data::MilTable& table, const std::string& title);
std::string result_line(const std::vector<FoldResult>& results, double seconds);

/// Writes the command line, the data, the options, and mean, standard deviation and single values of ROC AUC and
/// accuracy.
void write_json(const std::string& path, const data::MilTable& table, const TrainOptions& options,
                const std::vector<FoldResult>& results, double seconds);
/// Writes a row for each bag of each repeat: repeat and fold (counted from 1), the bag, its label as the data spells
/// it, and its score, the probability of the positive class when the bag was in the test part.
void write_scores(const std::string& path, const data::MilTable& table, const std::vector<FoldResult>& results);

/// A cell of a CSV file, in quotes if it needs them.
std::string csv_cell(const std::string& text);

}  // namespace hopfield::mil
