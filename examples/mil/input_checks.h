#pragma once

#include "options.h"
#include <hopfield/data/csv.h>

namespace hopfield::mil {

/// Checks the options against the data.
/// @throws UsageError if the table has too few bags for the folds, or if the model would be too large for any machine
void check_sizes(const data::MilTable& table, const TrainOptions& options);

/// Identifies a run, for its checkpoint: its settings and a digest of the file and of the table read from it, as JSON.
std::string identify_run(const std::string& path, const data::MilTable& table, const TrainOptions& options);

}  // namespace hopfield::mil
