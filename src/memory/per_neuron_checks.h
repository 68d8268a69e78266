#pragma once

#include <hopfield/memory/per_neuron.h>

#include <cstdint>
#include <string>

namespace hopfield::memory::detail {

/// @throws c10::Error if the option is not a number or a floating-point tensor [d], if it is not finite, or if it is
/// not positive although it should be.
void check_per_neuron(const PerNeuron& option, const char* name, bool is_positive, const std::string& prefix);

/// @throws c10::Error if the option is not a number, nor has `width` entries.
void check_width(const PerNeuron& option, const char* name, int64_t width, const std::string& prefix);

}  // namespace hopfield::memory::detail
