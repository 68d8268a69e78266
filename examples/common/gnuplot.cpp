#include "gnuplot.h"

#include "process.h"
#include "text.h"

#include <c10/util/Exception.h>

#include <sstream>
#include <utility>

namespace hopfield::examples {
namespace {

/// The last line that gnuplot printed about an error. The lines before it repeat the script.
std::string message_in(const std::string& errors) {
  std::string message;
  std::istringstream lines(errors);
  for (std::string line; std::getline(lines, line);) {
    const auto begin = line.find_first_not_of(" \t\r^");
    if (begin != std::string::npos) message = line.substr(begin);
  }
  return shown(message);
}

}  // namespace

std::string gnuplot_text(const std::string& text, size_t most) {
  std::string result;
  for (const auto& line : break_lines(valid_utf8(text), most)) {
    result += result.empty() ? "'" : ".\"\\n\".'";
    for (const char letter : line) {
      // Between single quotes, two of them stand for one, and nothing else has a meaning.
      if (static_cast<unsigned char>(letter) >= ' ') result += letter == '\'' ? "''" : std::string(1, letter);
    }
    result += "'";
  }
  return result.empty() ? "''" : result;
}

std::optional<std::string> run_gnuplot(const std::string& script) {
  // A user's own settings, which could change the look, are not read.
  auto result = run_process({"gnuplot", "--default-settings"}, script);
  if (!result) return std::nullopt;
  const auto message = message_in(result->errors);
  TORCH_CHECK(result->signal == 0, "hopfield::examples::run_gnuplot: expected gnuplot to draw the chart, but signal ",
              result->signal, " ended it");
  TORCH_CHECK(result->code == 0, "hopfield::examples::run_gnuplot: expected gnuplot to draw the chart, but it ",
              "ended with code ", result->code, message.empty() ? " and no message" : ": ", message);
  TORCH_CHECK(!result->output.empty(), "hopfield::examples::run_gnuplot: expected gnuplot to draw the chart, but it ",
              "printed nothing", message.empty() ? "" : ": ", message);
  return std::move(result->output);
}

}  // namespace hopfield::examples
