#pragma once

#include "common/chart.h"
#include "training.h"

#include <string>
#include <vector>

namespace hopfield::lm {

/// Identifies a run: its text and the options that its numbers depend on, as a JSON object in one line.
std::string describe_run(const Corpus& corpus, const TrainOptions& options);

/// "hopfield: loss 1.2345 on the rest of the text after 500 steps, 57.3 ms a step; ..": the result in one line.
std::string result_line(const std::vector<Training>& trainings);

/// The losses, and the classes of the heads over training if there are Hopfield layers.
std::vector<examples::Chart> charts_of(const std::vector<Training>& trainings);

void write_json(const std::string& path, std::vector<Training>& trainings, const Corpus& corpus,
                const TrainOptions& options, const std::string& sample);

}  // namespace hopfield::lm
