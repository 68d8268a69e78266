#include "command_line.h"

#include "console.h"
#include "errors.h"
#include "text.h"

#include <algorithm>
#include <optional>
#include <vector>

namespace hopfield::examples {
namespace {

constexpr auto kSeeHelp = "; see --help";
const auto kFooter = std::string("Where an option is given twice, the last one counts.\n") + kExitCodes;

using Arguments = std::vector<std::string>;

std::vector<std::string> option_names(const CLI::App& command) {
  std::vector<std::string> names;
  for (const auto* option : command.get_options()) names.push_back(option->get_name());
  return names;
}

std::vector<const CLI::App*> commands_of(const CLI::App& app) {
  return app.get_subcommands([](const CLI::App*) { return true; });
}

/// The command that the first argument names, or the program itself if it names none.
const CLI::App& command_of(const CLI::App& app, const Arguments& arguments) {
  for (const auto* command : commands_of(app)) {
    if (!arguments.empty() && arguments[0] == command->get_name()) return *command;
  }
  return app;
}

[[noreturn]] void refuse_option(const CLI::App& app, const CLI::App& command, const std::string& name) {
  const auto where = &command == &app ? std::string() : " of " + command.get_name();
  const auto hint = suggestion(name, option_names(command));
  if (!hint.empty()) throw UsageError{shown(name) + ": unknown option" + where + hint};
  for (const auto* other : commands_of(app)) {
    if (other != &command && other->get_option_no_throw(name) != nullptr) {
      throw UsageError{name + ": unknown option" + where + "; it belongs to the command " + other->get_name() +
                       ", which has to come first"};
    }
  }
  throw UsageError{shown(name) + ": unknown option" + where + kSeeHelp};
}

[[noreturn]] void refuse_word(const CLI::App& app, const CLI::App& command, const std::string& word) {
  if (&command != &app) throw UsageError{command.get_name() + ": expected an option, got " + quote(word) + kSeeHelp};
  std::vector<std::string> names;
  for (const auto* other : commands_of(app)) names.push_back(other->get_name());
  if (std::find(names.begin(), names.end(), word) != names.end()) {
    throw UsageError{word + ": expected the command to come first, got options before it"};
  }
  auto hint = suggestion(word, names);
  if (hint.empty()) hint = suggestion(word, option_names(app));
  throw UsageError{"expected an option" + (names.empty() ? "" : " or a command (" + joined(names) + ")") + ", got " +
                   quote(word) + (hint.empty() ? kSeeHelp : hint)};
}

/// Checks the form of all arguments and returns them with each value behind its option. Splitting happens here and not
/// in CLI11, so that values may begin with '-' or be empty.
Arguments split_options(const CLI::App& app, const Arguments& arguments) {
  const auto& command = command_of(app, arguments);
  Arguments result;
  size_t next = 0;
  if (&command != &app) result.push_back(arguments[next++]);
  while (next < arguments.size()) {
    const auto& argument = arguments[next++];
    if (argument.empty() || argument[0] != '-') refuse_word(app, command, argument);
    const auto equals = argument.find('=');
    const auto name = argument.substr(0, equals);
    const auto* option = name.rfind("--", 0) == 0 && name.size() > 2 ? command.get_option_no_throw(name) : nullptr;
    if (option == nullptr) refuse_option(app, command, name);
    result.push_back(name);
    if (option->get_items_expected_max() == 0) {
      if (equals != std::string::npos) throw UsageError{name + ": expected no value, got " + quote(argument)};
    } else if (equals != std::string::npos) {
      result.push_back(argument.substr(equals + 1));
    } else if (next == arguments.size()) {
      throw UsageError{name + ": expected a value behind it, got nothing"};
    } else if (arguments[next].rfind("--", 0) == 0) {
      throw UsageError{name + ": expected a value behind it, got " + quote(arguments[next]) +
                       "; if that is meant, write " + name + "=" + arguments[next]};
    } else {
      result.push_back(arguments[next++]);
    }
  }
  return result;
}

}  // namespace

CommandLine::CommandLine(const std::string& program, const std::string& description, std::string version)
    : app_(description, program), version_(std::move(version)) {
  app_.option_defaults()->take_last();
  app_.set_version_flag("--version", version_, "Print the version and exit");
  app_.footer(kFooter);
}

CLI::App& CommandLine::add_command(const std::string& name, const std::string& description) {
  auto* command = app_.add_subcommand(name, description);
  command->footer(kFooter);
  return *command;
}

bool CommandLine::parse(int argc, char** argv) {
  const Arguments arguments(argv + 1, argv + argc);
  for (const auto& argument : arguments) {
    if (argument == "--help" || argument == "-h") {
      const auto& command = command_of(app_, arguments);
      print(command.help(&command == &app_ ? "" : app_.get_name()));
      return false;
    }
    if (argument == "--version") {
      print(version_);
      return false;
    }
  }
  auto options = split_options(app_, arguments);
  std::reverse(options.begin(), options.end());  // CLI11 takes a vector in reverse order
  try {
    app_.parse(std::move(options));
  } catch (const CLI::RequiredError& error) {
    const std::string text = error.what();
    throw UsageError{text.substr(0, text.find(' ')) + ": expected to be given, got nothing" + kSeeHelp};
  } catch (const CLI::ParseError& error) {
    throw UsageError{std::string(error.what()) + kSeeHelp};
  }
  return true;
}

}  // namespace hopfield::examples
