#pragma once

#include "common/chart.h"
#include "rows.h"
#include <hopfield/theory/report.h>

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

namespace hopfield::theory_report {

/// How many patterns the patterns themselves retrieve, for inverse temperatures from where that is all of them to where
/// it is one. Of large sets, 500 patterns at even distances are looked at.
struct RetrievalCurve {
  std::vector<double> betas;
  std::vector<double> first_quartile, median, third_quartile;  // of k90
};
RetrievalCurve retrieval_curve(const at::Tensor& patterns, double beta);

/// All that is known about patterns and queries.
struct Analysis {
  Rows patterns, queries;
  theory::Report report;
  RetrievalCurve curve;
  double seconds = 0;
};

/// "69 of 1797 patterns are well separated at beta 0.125, and all from beta 3.9 on; ..": the result in one line.
std::string line_of(const Analysis& analysis);

/// Three panels: the separations, the energy along updates, and k90 against beta.
std::vector<examples::Chart> charts_of(const Analysis& analysis);

/// Writes the results with those of each pattern and query.
void write_json(const std::string& path, const Analysis& analysis, const Options& options);

}  // namespace hopfield::theory_report
