#pragma once

#include "cross_validation.h"

#include <string>
#include <vector>

namespace hopfield::mil {

/// The settings that decide the results, as JSON: for the results' file and to recognise a checkpoint.
std::string describe_run(const data::MilTable& table, const TrainOptions& options);

/// "hopfield 0.1.0, LibTorch 2.11.0, device cpu, threads 2, seed 0"
std::string first_line(const TrainOptions& options);
std::string table_line(const data::MilTable& table, const std::string& title);
std::string result_line(const std::vector<FoldResult>& results, double seconds);

/// The program's call as a line for a shell.
std::string command_text(int argc, char** argv);

/// The call, the data, the options, and mean, standard deviation and single values of ROC AUC and accuracy.
void write_json(const std::string& path, const data::MilTable& table, const TrainOptions& options,
                const std::vector<FoldResult>& results, double seconds);
/// repeat and fold (from 1), bag, label as the data spell it, score: the probability of the positive class while the
/// bag was in the test part.
void write_scores(const std::string& path, const data::MilTable& table, const std::vector<FoldResult>& results);

/// A cell of a CSV file, quoted where it has to be.
std::string csv_cell(const std::string& text);

}  // namespace hopfield::mil
