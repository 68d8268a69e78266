#pragma once

namespace hopfield::examples {

/// From here on Ctrl-C, SIGTERM and a terminal that closes set interrupted(), and the second of the same kind ends the
/// program. A full disk's and a closed pipe's signals are ignored: the failed write says so.
void catch_signals();

/// Whether the work should end at the next good place.
bool interrupted();

}  // namespace hopfield::examples
