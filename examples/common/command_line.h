#pragma once

#include <CLI/CLI.hpp>

#include <string>

namespace hopfield::examples {

/// The options and commands of a program. Where an option is given twice, the last one counts. The help ends with the
/// exit codes, and the error message for a mistyped name suggests the one that was probably meant.
class CommandLine {
 public:
  /// @param version  the line that --version prints
  CommandLine(const std::string& program, const std::string& description, std::string version);

  CLI::App& app() { return app_; }
  CLI::App& add_command(const std::string& name, const std::string& description);

  /// Reads the command line into the variables of the options. Returns false after --help or --version, whose text it
  /// prints. @throws UsageError if the call is wrong
  bool parse(int argc, char** argv);

 private:
  CLI::App app_;
  std::string version_;
};

}  // namespace hopfield::examples
