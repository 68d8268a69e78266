#include "options.h"

#include "errors.h"
#include "text.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <cmath>

namespace hopfield::examples {
namespace {

/// Reads the whole text as a number, independently of the locale. Nothing if it is not one.
template <typename Number>
std::optional<Number> parse_number(std::string text) {
  if (text.size() > 1 && text[0] == '+' && text[1] != '-') text.erase(0, 1);
  Number number{};
  const auto* end = text.data() + text.size();
  const auto result = std::from_chars(text.data(), end, number);
  if (result.ec != std::errc() || result.ptr != end) return std::nullopt;
  return number;
}

[[noreturn]] void refuse(const std::string& name, const std::string& expected, const std::string& got) {
  throw UsageError{name + ": expected " + expected + ", got " + (got.empty() ? "an empty text" : quote(got))};
}

std::string whole_number_text(int64_t least, int64_t most) {
  return fmt::format("a whole number from {} to {}", least, most);
}
std::string whole_number_text(uint64_t least, uint64_t most) {
  return fmt::format("a whole number from {} to {}", least, most);
}

/// Adds an option. `set` stores its value and returns whether the value is valid.
CLI::Option* add_option(CLI::App& app, const std::string& name, const std::string& expected,
                        const std::string& description, const std::function<bool(const std::string&)>& set) {
  const auto read = [name, expected, set](const CLI::results_t& values) {
    if (!set(values.back())) refuse(name, expected, values.back());
    return true;
  };
  return app.add_option(name, read, description)->type_name("NUMBER");
}

/// `Value` is Number or std::optional<Number>.
template <typename Number, typename Value>
CLI::Option* add_whole(CLI::App& app, const std::string& name, Value& value, Number least, Number most,
                       const std::string& description) {
  const auto set = [&value, least, most](const std::string& text) {
    const auto number = parse_number<Number>(text);
    if (!number || *number < least || *number > most) return false;
    value = *number;
    return true;
  };
  return add_option(app, name, whole_number_text(least, most), description, set);
}

std::string to_text(const Interval& interval) {
  const Interval any;
  if (interval.without_least) return fmt::format("a number above {}", interval.least);
  if (interval.least == any.least && interval.most == any.most) return "a finite number";
  return fmt::format("a number from {} to {}", interval.least, interval.most);
}

bool contains(const Interval& interval, const std::optional<double>& number) {
  return number && std::isfinite(*number) && *number >= interval.least && *number <= interval.most &&
         !(interval.without_least && *number == interval.least);
}

/// `Value` is double or std::optional<double>.
template <typename Value>
CLI::Option* add_real(CLI::App& app, const std::string& name, Value& value, const Interval& interval,
                      const std::string& description) {
  const auto set = [&value, interval](const std::string& text) {
    const auto number = parse_number<double>(text);
    if (!contains(interval, number)) return false;
    value = *number;
    return true;
  };
  return add_option(app, name, to_text(interval), description, set);
}

/// Adds an option for a list. @param expected  of each part  @param parse  returns nothing for a wrong part
template <typename Number, typename Parse>
CLI::Option* add_list(CLI::App& app, const std::string& name, std::vector<Number>& values, const std::string& expected,
                      const std::string& description, const Parse& parse) {
  const auto read = [name, &values, expected, parse](const CLI::results_t& results) {
    values.clear();
    for (const auto& part : split_at_commas(results.back())) {
      const auto number = parse(part);
      if (!number) refuse(name, expected + ", or several with commas between them", part);
      values.push_back(*number);
    }
    return true;
  };
  return app.add_option(name, read, description)
      ->type_name("NUMBERS")
      ->default_str(fmt::format("{}", fmt::join(values, ",")));
}

/// `Value` is std::string or std::optional<std::string>.
template <typename Value>
CLI::Option* add_word(CLI::App& app, const std::string& name, Value& value, const std::vector<std::string>& choices,
                      const std::string& description) {
  const auto read = [name, choices, &value](const CLI::results_t& values) {
    check_choice(name, values.back(), choices);
    value = values.back();
    return true;
  };
  return app.add_option(name, read, description + ": " + joined(choices))->type_name("NAME");
}

}  // namespace

void check_choice(const std::string& name, const std::string& text, const std::vector<std::string>& choices) {
  if (std::find(choices.begin(), choices.end(), text) != choices.end()) return;
  const auto got = text.empty() ? "an empty text" : quote(text) + suggestion(text, choices);
  throw UsageError{name + ": expected one of " + joined(choices) + ", got " + got};
}

CLI::Option* add_whole_number(CLI::App& app, const std::string& name, int64_t& value, int64_t least, int64_t most,
                              const std::string& description) {
  return add_whole(app, name, value, least, most, description)->default_str(std::to_string(value));
}

CLI::Option* add_whole_number(CLI::App& app, const std::string& name, std::optional<int64_t>& value, int64_t least,
                              int64_t most, const std::string& description) {
  return add_whole(app, name, value, least, most, description);
}

CLI::Option* add_seed(CLI::App& app, const std::string& name, uint64_t& value, const std::string& description) {
  return add_whole(app, name, value, uint64_t{0}, std::numeric_limits<uint64_t>::max(), description)
      ->default_str(std::to_string(value));
}

CLI::Option* add_number(CLI::App& app, const std::string& name, double& value, const Interval& interval,
                        const std::string& description) {
  return add_real(app, name, value, interval, description)->default_str(fmt::format("{}", value));
}

CLI::Option* add_number(CLI::App& app, const std::string& name, std::optional<double>& value, const Interval& interval,
                        const std::string& description) {
  return add_real(app, name, value, interval, description);
}

CLI::Option* add_numbers(CLI::App& app, const std::string& name, std::vector<double>& values, const Interval& interval,
                         const std::string& description) {
  return add_list(app, name, values, to_text(interval), description, [interval](const std::string& text) {
    const auto number = parse_number<double>(text);
    return contains(interval, number) ? number : std::nullopt;
  });
}

CLI::Option* add_whole_numbers(CLI::App& app, const std::string& name, std::vector<int64_t>& values, int64_t least,
                               int64_t most, const std::string& description) {
  return add_list(app, name, values, whole_number_text(least, most), description, [=](const std::string& text) {
    const auto number = parse_number<int64_t>(text);
    return number && *number >= least && *number <= most ? number : std::nullopt;
  });
}

CLI::Option* add_text(CLI::App& app, const std::string& name, std::string& value, const std::string& expected,
                      const std::string& description) {
  const auto set = [&value](const std::string& text) {
    value = text;
    return !text.empty();
  };
  return add_option(app, name, expected, description, set)->type_name("TEXT")->default_str(value);
}

CLI::Option* add_choice(CLI::App& app, const std::string& name, std::string& value,
                        const std::vector<std::string>& choices, const std::string& description) {
  return add_word(app, name, value, choices, description)->default_str(value);
}

CLI::Option* add_choice(CLI::App& app, const std::string& name, std::optional<std::string>& value,
                        const std::vector<std::string>& choices, const std::string& description) {
  return add_word(app, name, value, choices, description);
}

CLI::Option* add_paths(CLI::App& app, const std::string& name, std::vector<std::string>& paths,
                       const std::string& expected, const std::string& description) {
  constexpr int kMost = 1000000;
  const auto read = [name, expected, &paths](const CLI::results_t& values) {
    for (const auto& value : values) {
      if (value.empty()) throw UsageError{name + ": expected " + expected + ", got an empty text"};
    }
    paths = values;
    return true;
  };
  return app.add_option(name, read, description + "; may be given several times")
      ->expected(1, kMost)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
      ->type_name("FILE|FOLDER");
}

CLI::Option* add_file(CLI::App& app, const std::string& name, std::string& value, const std::string& description) {
  return add_text(app, name, value, "a file", description)->type_name("FILE");
}

CLI::Option* add_file(CLI::App& app, const std::string& name, std::string& value,
                      const std::vector<std::string>& endings, const std::string& description) {
  const auto set = [&value, endings](const std::string& text) {
    value = text;
    return std::find(endings.begin(), endings.end(), ending_of(text)) != endings.end();
  };
  const auto expected = fmt::format("a file whose name ends in {}", fmt::join(endings, " or "));
  return add_option(app, name, expected, description, set)->type_name("FILE")->default_str(value);
}

}  // namespace hopfield::examples
