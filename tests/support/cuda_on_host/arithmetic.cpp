#include "cuda_on_host/arithmetic.h"

#include "cuda_on_host/numbers.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <utility>

namespace hopfield::cuda_on_host {
namespace {

constexpr const char* kVariable = "HOPFIELD_CUDA_ON_HOST_ARITHMETIC";

std::string named_arithmetic() {
  const char* name = std::getenv(kVariable);
  return name ? name : "exact";
}

Arithmetic& current_arithmetic() {
  static Arithmetic arithmetic = named_arithmetic() == "device" ? Arithmetic::device : Arithmetic::exact;
  return arithmetic;
}

bool as_on_a_device() { return current_arithmetic() == Arithmetic::device; }

/// 1 or -1, as if by chance: errors of one sign would cancel in a softmax.
int sign_of_error(float value) { return bits_of(value) * 0x9E3779B9u >> 31 ? 1 : -1; }

/// The instructions with .ftz take subnormal numbers for 0, and their results are 0 instead.
float without_subnormal(float value) { return std::fabs(value) < 0x1p-126f ? std::copysign(0.0f, value) : value; }

/// The sums of a lane: c[i / 2][i % 2]. They are found together, by the vector instructions that every CPU has.
using Sums = float __attribute__((vector_size(16)));
using Words = int32_t __attribute__((vector_size(16)));
using Bits = uint32_t __attribute__((vector_size(16)));  // in which an overflow, as of infinities, is no error

Words bits_of(Sums values) {
  Words bits;
  std::memcpy(&bits, &values, sizeof(bits));
  return bits;
}

Sums floats_of(Words bits) {
  Sums values;
  std::memcpy(&values, &bits, sizeof(values));
  return values;
}

/// The numbers of both operands that stand at one place of the sums.
struct Pair {
  Sums left, right;
  Pair(const std::array<Factors, 2>& a, const std::array<Factors, 2>& b, size_t k)
      : left{a[0][k], a[0][k], a[1][k], a[1][k]}, right{b[0][k], b[1][k], b[0][k], b[1][k]} {}
};

/// A number without the digits that a float does not have.
double cut_to_float(double number) {
  uint64_t bits;
  std::memcpy(&bits, &number, 8);
  bits &= ~((uint64_t{1} << 29) - 1);
  std::memcpy(&number, &bits, 8);
  return number;
}

/// Adds `terms` products at a time to the sum so far. All of them are cut off, towards 0, `places` binary places below
/// the first digit of the largest of them; then they are added exactly, and the sum is cut off to a float.
template <int count, int terms, int places>
Sums add_cut_off(Sums sums, const std::array<Factors, 2>& a, const std::array<Factors, 2>& b) {
  for (size_t first = 0; first < count; first += terms) {
    constexpr int32_t kMagnitude = 0x7FFFFFFF;
    Sums products[terms];
    Words largest = bits_of(sums) & kMagnitude;  // the bits of floats that are not negative have their order
    for (size_t k = 0; k < terms; ++k) {
      const Pair pair(a, b, first + k);
      products[k] = pair.left * pair.right;
      const Words magnitude = bits_of(products[k]) & kMagnitude;
      largest = magnitude > largest ? magnitude : largest;
    }
    // Numbers below 2^-100 are cut off as if that were the largest. A device keeps more of them, which changes nothing
    // beside other numbers.
    constexpr int32_t kBias = 127, kLeast = kBias - 100;
    const Words exponent = largest >> 23, at_least = exponent > kLeast ? exponent : kLeast + (exponent & 0);
    const Sums unit = floats_of((at_least - places) << 23), scale = floats_of((2 * kBias + places - at_least) << 23);
    const auto units_in = [&](Sums values) { return (Bits) __builtin_convertvector(values * scale, Words); };
    Bits units = units_in(sums);
    for (const auto& product : products) units += units_in(product);
    for (size_t i = 0; i < 4; ++i) {
      if (exponent[i] <= 2 * kBias) {
        sums[i] = static_cast<float>(cut_to_float(static_cast<int32_t>(units[i]))) * unit[i];
      } else {  // there is a number that is not finite
        for (const auto& product : products) sums[i] += product[i];
      }
    }
  }
  return sums;
}

template <int count>
Sums add_one_by_one(Sums sums, const std::array<Factors, 2>& a, const std::array<Factors, 2>& b) {
  for (size_t k = 0; k < count; ++k) {
    const Pair pair(a, b, k);
    sums += pair.left * pair.right;
  }
  return sums;
}

Sums add(Product product, Sums sums, const std::array<Factors, 2>& a, const std::array<Factors, 2>& b) {
  const bool exact = !as_on_a_device();
  // Khattak and Mikaitis, Accurate Models of NVIDIA Tensor Cores (2025): an A100 adds 8 products of 16-bit numbers or 4
  // of tf32 at a time and keeps one bit more than a float has, an H100 adds 16 and keeps two.
  switch (product) {
    case Product::of_16_bits:
      return exact ? add_one_by_one<16>(sums, a, b) : add_cut_off<16, 8, 24>(sums, a, b);
    case Product::of_tf32:
      return exact ? add_one_by_one<8>(sums, a, b) : add_cut_off<8, 4, 24>(sums, a, b);
    case Product::of_warpgroup:
      return exact ? add_one_by_one<16>(sums, a, b) : add_cut_off<16, 16, 25>(sums, a, b);
  }
  return sums;
}

}  // namespace

Arithmetic set_arithmetic(Arithmetic arithmetic) { return std::exchange(current_arithmetic(), arithmetic); }

std::string arithmetic_refusal() {
  static const auto name = named_arithmetic();
  if (name == "exact" || name == "device") return {};
  return std::string(kVariable) + " has to be exact or device, not \"" + name + "\"";
}

float exp2(float value) {
  if (!as_on_a_device()) return std::exp2(value);
  // PTX ISA, ex2: at most 2 units in the last place from the correctly rounded result; 2^0 is 1.
  value = without_subnormal(value);
  const float result = without_subnormal(std::exp2(value));
  if (value == 0.0f || result == 0.0f || !std::isfinite(result)) return result;
  const auto bits = bits_of(result) + static_cast<uint32_t>(2 * sign_of_error(value));
  return without_subnormal(float_of(std::min(bits, bits_of(HUGE_VALF))));
}

float log2(float value) {
  if (!as_on_a_device()) return std::log2(value);
  // PTX ISA, lg2: an error of at most 2^-22 between 1/2 and 2, elsewhere of at most 2^-22 of the result. It includes
  // the rounding to float.
  value = without_subnormal(value);
  const double result = std::log2(static_cast<double>(value));
  if (!std::isfinite(result)) return static_cast<float>(result);
  const double largest = 0x1p-22 * std::max(1.0, std::fabs(result)), rounding = 0x1p-24 * std::fabs(result);
  return static_cast<float>(result + sign_of_error(value) * (largest - rounding));
}

float rsqrt(float value) {
  if (!as_on_a_device()) return 1.0f / std::sqrt(value);
  // PTX ISA, rsqrt: at most 2^-22.9 of the result, including the rounding to float.
  const double result = 1.0 / std::sqrt(static_cast<double>(without_subnormal(value)));
  if (!std::isfinite(result) || result == 0.0) return static_cast<float>(result);
  return static_cast<float>(result * (1.0 + sign_of_error(value) * (1.279e-7 - 0x1p-24)));
}

void add_products(Product product, const std::array<Factors, 2>& a, const std::array<Factors, 2>& b, float* c) {
  Sums sums;
  std::memcpy(&sums, c, sizeof(sums));
  sums = add(product, sums, a, b);
  std::memcpy(c, &sums, sizeof(sums));
}

}  // namespace hopfield::cuda_on_host
