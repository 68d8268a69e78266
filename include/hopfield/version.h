#pragma once

namespace hopfield {

/// Version of the library in use, for example "0.1.0".
const char* version();

}  // namespace hopfield
