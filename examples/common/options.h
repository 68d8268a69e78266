#pragma once

#include <CLI/CLI.hpp>

#include <cstdint>
#include <limits>
#include <optional>
#include <string>

namespace hopfield::examples {

/// Options that refuse what they do not expect in one sentence: option, what was expected, what came. The value that
/// the variable has here is the default.

/// Decimal digits, with '-' where `least` is negative. Leading zeros mean nothing.
CLI::Option* add_whole_number(CLI::App& app, const std::string& name, int64_t& value, int64_t least, int64_t most,
                              const std::string& description);

/// All of 64 bits.
CLI::Option* add_seed(CLI::App& app, const std::string& name, uint64_t& value, const std::string& description);

/// Numbers from `least` to `most`, or above `least`. Infinity and NaN are never meant.
struct Interval {
  double least = -std::numeric_limits<double>::max(), most = std::numeric_limits<double>::max();
  bool without_least = false;
};
constexpr Interval kAboveZero{0, std::numeric_limits<double>::max(), true}, kProbability{0, 1};

CLI::Option* add_number(CLI::App& app, const std::string& name, double& value, const Interval& interval,
                        const std::string& description);
CLI::Option* add_number(CLI::App& app, const std::string& name, std::optional<double>& value, const Interval& interval,
                        const std::string& description);

/// Anything but an empty text. @param expected  for messages: "a device's name"
CLI::Option* add_text(CLI::App& app, const std::string& name, std::string& value, const std::string& expected,
                      const std::string& description);
CLI::Option* add_file(CLI::App& app, const std::string& name, std::string& value, const std::string& description);

}  // namespace hopfield::examples
