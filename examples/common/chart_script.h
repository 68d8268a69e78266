#pragma once

#include "chart.h"

#include <string>
#include <vector>

namespace hopfield::examples {

/// The data of all charts as gnuplot reads it: a block for the heat map of each chart, if it has one, and then one for
/// each of its series.
std::string chart_data(const std::vector<Chart>& charts);

/// The command that sets the format and the size of the picture. @param ending  of its file: .png or .svg
std::string terminal_command(const std::vector<Chart>& charts, const std::string& ending);

/// The commands that draw the charts.
/// @param source  where chart_data() stands, in gnuplot's terms: a data block ($data) or a variable with a file's name
/// @throws c10::Error if a chart has nothing to show
std::string plot_commands(const std::vector<Chart>& charts, const std::string& source);

}  // namespace hopfield::examples
