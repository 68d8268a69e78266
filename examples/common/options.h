#pragma once

#include <CLI/CLI.hpp>

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <vector>

namespace hopfield::examples {

// Options whose error messages name the option, what was expected and what came. The value that the variable has when
// its option is added is the default.

/// Adds an option for a decimal number from `least` to `most`. Leading zeros are allowed.
CLI::Option* add_whole_number(CLI::App& app, const std::string& name, int64_t& value, int64_t least, int64_t most,
                              const std::string& description);
CLI::Option* add_whole_number(CLI::App& app, const std::string& name, std::optional<int64_t>& value, int64_t least,
                              int64_t most, const std::string& description);

/// Adds an option for a random seed: any number of 64 bits without sign.
CLI::Option* add_seed(CLI::App& app, const std::string& name, uint64_t& value, const std::string& description);

/// The finite numbers from `least` to `most`.
struct Interval {
  double least = -std::numeric_limits<double>::max(), most = std::numeric_limits<double>::max();
  bool without_least = false;  ///< whether `least` itself is excluded
};
constexpr Interval kAboveZero{0, std::numeric_limits<double>::max(), true}, kProbability{0, 1};

/// Adds an option for a number in an interval.
CLI::Option* add_number(CLI::App& app, const std::string& name, double& value, const Interval& interval,
                        const std::string& description);
CLI::Option* add_number(CLI::App& app, const std::string& name, std::optional<double>& value, const Interval& interval,
                        const std::string& description);

/// Adds an option for one or several numbers in an interval, with commas between them.
CLI::Option* add_numbers(CLI::App& app, const std::string& name, std::vector<double>& values, const Interval& interval,
                         const std::string& description);
/// Adds an option for one or several whole numbers from `least` to `most`, with commas between them.
CLI::Option* add_whole_numbers(CLI::App& app, const std::string& name, std::vector<int64_t>& values, int64_t least,
                               int64_t most, const std::string& description);

/// Adds an option for any text that is not empty. @param expected  what it is, for error messages: "a device's name"
CLI::Option* add_text(CLI::App& app, const std::string& name, std::string& value, const std::string& expected,
                      const std::string& description);
/// @throws UsageError unless the text is one of the choices. @param name  of the option
void check_choice(const std::string& name, const std::string& text, const std::vector<std::string>& choices);
/// Adds an option for one of several words. @param choices  the words, in the order in which messages list them
CLI::Option* add_choice(CLI::App& app, const std::string& name, std::string& value,
                        const std::vector<std::string>& choices, const std::string& description);
CLI::Option* add_choice(CLI::App& app, const std::string& name, std::optional<std::string>& value,
                        const std::vector<std::string>& choices, const std::string& description);
/// Adds an option for paths of files or folders, which may be given several times.
/// @param expected  what they are, for error messages: "a PNG file or a folder"
CLI::Option* add_paths(CLI::App& app, const std::string& name, std::vector<std::string>& paths,
                       const std::string& expected, const std::string& description);
/// Adds an option for the path of a file.
CLI::Option* add_file(CLI::App& app, const std::string& name, std::string& value, const std::string& description);
/// Adds an option for the path of a file whose ending says its format, in upper or lower case.
/// @param endings  those that are possible: {".png", ".svg"}
CLI::Option* add_file(CLI::App& app, const std::string& name, std::string& value,
                      const std::vector<std::string>& endings, const std::string& description);

}  // namespace hopfield::examples
