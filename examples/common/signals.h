#pragma once

namespace hopfield::examples {

/// Installs signal handlers. From then on the first SIGINT (Ctrl-C), SIGTERM or SIGHUP (the terminal closes) makes
/// interrupted() true, and a second one of the same kind ends the program. SIGPIPE and SIGXFSZ are ignored, so that
/// writing to a closed pipe or a file that has become too large returns an error instead.
void catch_signals();

/// Whether the program was asked to end. Long work should then stop where it can be resumed.
bool interrupted();

}  // namespace hopfield::examples
