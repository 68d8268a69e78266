#include "errors.h"

#include "console.h"

#include <algorithm>
#include <new>
#include <regex>

namespace hopfield::examples {

std::string plain_message(const std::exception& error) {
  const auto* torch_error = dynamic_cast<const c10::Error*>(&error);
  std::string text = torch_error ? torch_error->what_without_backtrace() : error.what();
  const bool no_memory =
      dynamic_cast<const std::bad_alloc*>(&error) || dynamic_cast<const c10::OutOfMemoryError*>(&error);
  if (no_memory || text.find("can't allocate memory") != std::string::npos) {
    return "there is not enough memory; choose smaller sizes, a smaller --batch or fewer --threads";
  }
  text = text.substr(0, text.find("\nCUDA"));  // what follows is advice for debugging kernels
  constexpr size_t kMostBytes = 4000;          // std::regex recurses over the text and could overflow the stack
  text = text.substr(0, kMostBytes);
  static const std::regex place(R"(\[(enforce fail at|json\.exception)[^\]]*\] *(\S+ [=<>!]+ \S+\. *)?)");
  static const std::regex name(R"(\b(hopfield|c10|at|torch|std)(::[A-Za-z_]\w*)+(\(\))?(: )?)");
  text = std::regex_replace(std::regex_replace(text, place, ""), name, "");
  std::replace_if(
      text.begin(), text.end(), [](unsigned char c) { return c < ' '; }, ' ');
  return text;
}

int run_program(const std::string& name, const std::function<int()>& work) {
  open_missing_streams();
  int code = kFailed;
  try {
    code = work();
  } catch (const UsageError& error) {
    print_error(name + ": " + error.message);
    code = kWrongCall;
  } catch (const std::exception& error) {
    print_error(name + ": " + plain_message(error));
  }
  if (const auto failure = print_failure(); !failure.empty()) {
    print_error(name + ": cannot write to standard output: " + failure);
    if (code == kDone) code = kFailed;
  }
  return code;
}

}  // namespace hopfield::examples
