#include "signals.h"

#include <atomic>
#include <csignal>

namespace hopfield::examples {
namespace {

std::atomic<bool> caught{false};
static_assert(std::atomic<bool>::is_always_lock_free, "a signal handler may use nothing else");

extern "C" void on_signal(int) { caught = true; }

}  // namespace

void catch_signals() {
  for (const auto number : {SIGINT, SIGTERM, SIGHUP}) {
    struct sigaction previous {};
    // If the program was started with the signal ignored, as by nohup, it stays ignored.
    if (::sigaction(number, nullptr, &previous) == 0 && previous.sa_handler == SIG_IGN) continue;
    struct sigaction action {};
    action.sa_handler = on_signal;
    action.sa_flags = SA_RESTART | static_cast<int>(SA_RESETHAND);
    ::sigaction(number, &action, nullptr);
  }
  for (const auto number : {SIGPIPE, SIGXFSZ}) std::signal(number, SIG_IGN);
}

bool interrupted() { return caught; }

}  // namespace hopfield::examples
