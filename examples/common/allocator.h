#pragma once

namespace hopfield::examples {

/// Lets the C library keep memory that was freed, for the next tensors, instead of giving it back to the system. Large
/// tensors then need not be filled with zeros by the system again and again, which takes up to a fifth of the time of a
/// transformer's layers.
void keep_freed_memory();

}  // namespace hopfield::examples
