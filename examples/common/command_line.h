#pragma once

#include <CLI/CLI.hpp>

#include <string>

namespace hopfield::examples {

/// A program's options and commands. Where an option is given twice, the last one counts. The help ends with the exit
/// codes, and mistyped names are answered with the one that was meant.
class CommandLine {
 public:
  /// @param version  what --version prints
  CommandLine(const std::string& program, const std::string& description, std::string version);

  CLI::App& app() { return app_; }
  CLI::App& add_command(const std::string& name, const std::string& description);

  /// False after --help or --version, whose text has been printed then. @throws UsageError
  bool parse(int argc, char** argv);

 private:
  CLI::App app_;
  std::string version_;
};

}  // namespace hopfield::examples
