#pragma once

#include "common/chart.h"
#include "landscape.h"

#include <string>
#include <vector>

namespace hopfield::landscape {

/// The panel of a landscape: energy, paths, patterns and the fixed points.
examples::Chart chart_of(const Landscape& landscape, const at::Tensor& patterns, const Frame& frame);

/// "beta 6: 4 fixed points: 2 single patterns, 2 metastable states"
std::string line_of(const Landscape& landscape);

/// Writes the fixed points of all landscapes.
void write_report(const std::string& path, const std::vector<Landscape>& landscapes, const at::Tensor& patterns,
                  const Options& options);

}  // namespace hopfield::landscape
