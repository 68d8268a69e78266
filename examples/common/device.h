#pragma once

#include <CLI/CLI.hpp>

#include <string>

namespace hopfield::examples {

/// Adds the option --device: cpu, cuda or cuda:N.
CLI::Option* add_device(CLI::App& app, std::string& device);

/// @throws UsageError unless `device`, the value of --device, names a device that is present
void check_device(const std::string& device);

}  // namespace hopfield::examples
