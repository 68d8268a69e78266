#pragma once

#include <CLI/CLI.hpp>

#include <string>

namespace hopfield::examples {

/// --device: cpu, cuda or cuda:N.
CLI::Option* add_device(CLI::App& app, std::string& device);

/// @throws UsageError unless --device names a device that is there
void check_device(const std::string& device);

}  // namespace hopfield::examples
