#pragma once

// 16-bit and tf32 numbers as bits, rounded as the device rounds them.

#include <cstdint>
#include <cstring>

namespace hopfield::cuda_on_host {

inline uint32_t bits_of(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  return bits;
}

inline float float_of(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}

inline bool is_nan_bits(uint32_t bits) { return (bits & 0x7FFFFFFFu) > 0x7F800000u; }

/// To the nearest, ties to even; NaN becomes the device's one.
inline uint16_t bfloat16_bits(float value) {
  const auto bits = bits_of(value);
  if (is_nan_bits(bits)) return 0x7FFF;
  return static_cast<uint16_t>((bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16);
}

inline float float_of_bfloat16(uint16_t bits) { return float_of(static_cast<uint32_t>(bits) << 16); }

/// To the nearest, ties to even; NaN becomes the device's one.
inline uint16_t float16_bits(float value) {
  const auto bits = bits_of(value);
  if (is_nan_bits(bits)) return 0x7FFF;
  const auto sign = static_cast<uint16_t>((bits >> 16) & 0x8000u);
  const float magnitude = float_of(bits & 0x7FFFFFFFu);
  if (magnitude >= 65520.0f) return static_cast<uint16_t>(sign | 0x7C00u);
  if (magnitude < 6.103515625e-5f) {
    // Below 2^-14 numbers are multiples of 2^-24. Added to 0.5 they are rounded to that by float32 itself.
    return static_cast<uint16_t>(sign | (bits_of(magnitude + 0.5f) - bits_of(0.5f)));
  }
  const auto rebiased = bits_of(magnitude) - (112u << 23);
  return static_cast<uint16_t>(sign | ((rebiased + 0xFFFu + ((rebiased >> 13) & 1u)) >> 13));
}

inline float float_of_float16(uint16_t bits) {
  const uint32_t sign = (bits & 0x8000u) << 16;
  const uint32_t magnitude = bits & 0x7FFFu;
  if (magnitude >= 0x7C00u) return float_of(sign | 0x7F800000u | (magnitude & 0x3FFu) << 13);
  if (magnitude < 0x400u) {
    const float value = static_cast<float>(magnitude) * 5.9604644775390625e-8f;  // 2^-24
    return sign ? -value : value;
  }
  return float_of(sign | ((magnitude << 13) + (112u << 23)));
}

/// cvt.rna.tf32.f32: 10 bits of mantissa, to the nearest, ties away from zero.
inline uint32_t tf32_bits(float value) {
  const auto bits = bits_of(value);
  if (is_nan_bits(bits)) return 0x7FFFFFFFu;
  return (bits + 0x1000u) & ~0x1FFFu;
}

}  // namespace hopfield::cuda_on_host
