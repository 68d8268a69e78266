#pragma once

// 16-bit numbers, tf32 and the device's fast functions of float.

#include <kernels/cuda/device.h>

#include <cmath>
#include <cstdint>
#include <type_traits>

namespace hopfield::kernels::cuda {

/// Storage of a bfloat16: the upper half of a float.
struct bfloat16_t {
  uint16_t bits;
};

/// Storage of an IEEE half.
struct float16_t {
  uint16_t bits;
};

template <class T>
constexpr bool kIsFloat = std::is_same_v<T, float>;

HOPFIELD_DEVICE float to_float(float value) { return value; }

HOPFIELD_DEVICE float to_float(bfloat16_t value) {
#if defined(__CUDACC__)
  return __uint_as_float(static_cast<uint32_t>(value.bits) << 16);
#else
  return cuda_on_host::float_of_bfloat16(value.bits);
#endif
}

HOPFIELD_DEVICE float to_float(float16_t value) {
#if defined(__CUDACC__)
  float result;
  asm("cvt.f32.f16 %0, %1;" : "=f"(result) : "h"(value.bits));
  return result;
#else
  return cuda_on_host::float_of_float16(value.bits);
#endif
}

/// Rounded to the nearest, ties to even.
template <class T>
HOPFIELD_DEVICE T from_float(float value);

template <>
HOPFIELD_DEVICE float from_float<float>(float value) {
  return value;
}

template <>
HOPFIELD_DEVICE bfloat16_t from_float<bfloat16_t>(float value) {
#if defined(__CUDACC__)
  bfloat16_t result;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(result.bits) : "f"(value));
  return result;
#else
  return {cuda_on_host::bfloat16_bits(value)};
#endif
}

template <>
HOPFIELD_DEVICE float16_t from_float<float16_t>(float value) {
#if defined(__CUDACC__)
  float16_t result;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(result.bits) : "f"(value));
  return result;
#else
  return {cuda_on_host::float16_bits(value)};
#endif
}

/// Two 16-bit numbers in one register, `low` in the lower half: what mma fragments are made of.
template <class T>
HOPFIELD_DEVICE uint32_t pack_pair(float low, float high) {
#if defined(__CUDACC__)
  uint32_t pair;
  if constexpr (std::is_same_v<T, bfloat16_t>) {
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  } else {
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  }
  return pair;
#else
  return from_float<T>(low).bits | static_cast<uint32_t>(from_float<T>(high).bits) << 16;
#endif
}

struct FloatPair {
  float low;
  float high;
};

template <class T>
HOPFIELD_DEVICE FloatPair unpack_pair(uint32_t pair) {
  return {to_float(T{static_cast<uint16_t>(pair & 0xFFFFu)}), to_float(T{static_cast<uint16_t>(pair >> 16)})};
}

/// The bits of a float with 10 bits of mantissa, to the nearest, ties away from zero: an operand of mma_m16n8k8_tf32.
HOPFIELD_DEVICE uint32_t to_tf32(float value) {
#if defined(__CUDACC__)
  uint32_t bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(value));
  return bits;
#else
  return cuda_on_host::tf32_bits(value);
#endif
}

HOPFIELD_DEVICE uint32_t float_bits(float value) {
#if defined(__CUDACC__)
  return __float_as_uint(value);
#else
  return cuda_on_host::bits_of(value);
#endif
}

HOPFIELD_DEVICE float bits_float(uint32_t bits) {
#if defined(__CUDACC__)
  return __uint_as_float(bits);
#else
  return cuda_on_host::float_of(bits);
#endif
}

/// log2 of e. Scores are kept in units of log 2, since the device has a fast exp2.
constexpr float kLog2e = 1.44269504088896341f;

HOPFIELD_DEVICE float minus_infinity() { return bits_float(0xFF800000u); }

/// 2 to the power of `value`, off by at most 2 units in the last place from what is nearest; 0 for minus infinity.
HOPFIELD_DEVICE float fast_exp2(float value) {
#if defined(__CUDACC__)
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(value));
  return result;
#else
  return cuda_on_host::exp2(value);
#endif
}

/// Off by at most 2^-22, and of results larger than 1 by at most 2^-22 of them.
HOPFIELD_DEVICE float fast_log2(float value) {
#if defined(__CUDACC__)
  float result;
  asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(value));
  return result;
#else
  return cuda_on_host::log2(value);
#endif
}

/// 1 / sqrt(value), off by at most 2^-22.9 of the result.
HOPFIELD_DEVICE float fast_rsqrt(float value) {
#if defined(__CUDACC__)
  float result;
  asm("rsqrt.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(value));
  return result;
#else
  return cuda_on_host::rsqrt(value);
#endif
}

/// a b + c, rounded once.
HOPFIELD_DEVICE float fused_multiply_add(float a, float b, float c) {
#if defined(__CUDACC__)
  return __fmaf_rn(a, b, c);
#else
  return std::fma(a, b, c);
#endif
}

}  // namespace hopfield::kernels::cuda
