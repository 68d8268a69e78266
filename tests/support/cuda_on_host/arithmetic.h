#pragma once

// What a device leaves open: the last bits of its fast functions, and of sums in its matrix products.

#include "cuda_on_host/numbers.h"

#include <array>
#include <cstdint>
#include <string>

namespace hopfield::cuda_on_host {

/// `exact`: functions are those of the standard library, and a sum of products is rounded to the nearest float after
/// each of them. `device`: functions are as far off as PTX documents, and sums are cut off where those of an A100, and
/// of a warpgroup of an H100, are. Neither is a device to the bit; what holds in both does not depend on such bits.
enum class Arithmetic { exact, device };

/// Sets the arithmetic and returns the one before. At first it is that of the environment variable
/// HOPFIELD_CUDA_ON_HOST_ARITHMETIC, and exact where that is not set.
Arithmetic set_arithmetic(Arithmetic arithmetic);

/// Why the environment variable names no arithmetic; empty: it does, or is not set.
std::string arithmetic_refusal();

float exp2(float value);
float log2(float value);
float rsqrt(float value);

/// Instructions that multiply matrices, by the type of their operands.
enum class Product { of_16_bits, of_tf32, of_warpgroup };

/// A row of the left operand of such an instruction, or a column of the right one: 16 numbers, 8 of tf32.
using Factors = std::array<float, 16>;

/// c[2 i + j] += a[i] b[j], as the instruction adds it up.
void add_products(Product product, const std::array<Factors, 2>& a, const std::array<Factors, 2>& b, float* c);

}  // namespace hopfield::cuda_on_host
