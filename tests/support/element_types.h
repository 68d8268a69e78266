#pragma once

// The number formats of patterns on the host.

#include "cuda_on_host/numbers.h"

#include <kernels/params.h>

#include <cstring>
#include <vector>

namespace hopfield::testing {

inline size_t size_of(kernels::ElementType type) { return type == kernels::ElementType::float32 ? 4 : 2; }

/// The number that a type has for the value.
inline float rounded(float value, kernels::ElementType type) {
  if (type == kernels::ElementType::bfloat16) {
    return cuda_on_host::float_of_bfloat16(cuda_on_host::bfloat16_bits(value));
  }
  if (type == kernels::ElementType::float16) return cuda_on_host::float_of_float16(cuda_on_host::float16_bits(value));
  return value;
}

inline std::vector<unsigned char> to_type(const std::vector<double>& values, kernels::ElementType type) {
  std::vector<unsigned char> bytes(values.size() * size_of(type));
  for (size_t i = 0; i < values.size(); ++i) {
    const auto value = static_cast<float>(values[i]);
    const uint16_t bits =
        type == kernels::ElementType::bfloat16 ? cuda_on_host::bfloat16_bits(value) : cuda_on_host::float16_bits(value);
    if (type == kernels::ElementType::float32) {
      std::memcpy(&bytes[4 * i], &value, 4);
    } else {
      std::memcpy(&bytes[2 * i], &bits, 2);
    }
  }
  return bytes;
}

inline std::vector<double> from_type(const void* numbers, size_t count, kernels::ElementType type) {
  std::vector<double> values(count);
  for (size_t i = 0; i < count; ++i) {
    const auto* at = static_cast<const unsigned char*>(numbers) + i * size_of(type);
    float value = 0;
    uint16_t bits = 0;
    if (type == kernels::ElementType::float32) {
      std::memcpy(&value, at, 4);
    } else {
      std::memcpy(&bits, at, 2);
      value = type == kernels::ElementType::bfloat16 ? cuda_on_host::float_of_bfloat16(bits)
                                                     : cuda_on_host::float_of_float16(bits);
    }
    values[i] = value;
  }
  return values;
}

}  // namespace hopfield::testing
