#include "../../support/hardware_errors.h"
#include "harness.h"

#include <kernels/cuda/numbers.h>

#include <cmath>
#include <limits>

namespace hopfield::kernels::cuda {
namespace {

template <class T>
HOPFIELD_KERNEL void round_trip(const float* in, uint32_t* bits, float* out, int count) {
  for (int i = thread_index(); i < count; i += block_size()) {
    const T number = from_float<T>(in[i]);
    bits[2 * i] = number.bits;
    out[3 * i] = to_float(number);
    bits[2 * i + 1] = pack_pair<T>(in[i], -in[i]);
    const auto pair = unpack_pair<T>(bits[2 * i + 1]);
    out[3 * i + 1] = pair.low;
    out[3 * i + 2] = pair.high;
  }
}

using hopfield::testing::kExp2Error;
using hopfield::testing::kLog2Error;
using hopfield::testing::kRsqrtError;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

/// Numbers near all points where rounding changes, and many random ones of all sizes.
std::vector<float> delicate_floats() {
  std::vector<float> values{0.0f,          -0.0f,         1.0f,          -1.0f,        kInfinity,     -kInfinity,
                            NAN,           65504.0f,      65519.0f,      65520.0f,     65536.0f,      3.3895e38f,
                            3.4e38f,       1e-40f,        6.1035156e-5f, 6.097555e-5f, 5.9604645e-8f, 2.9802322e-8f,
                            2.9802326e-8f, 1e-9f,         2049.0f,       2051.0f,      1.00390625f,   1.01171875f,
                            1.0009765625f, 1.00048828125f};
  std::mt19937 random(4);
  for (int i = 0; i < 2000; ++i) {
    const float mantissa = static_cast<float>(random() % 4096) / 2048.0f - 1.0f;
    values.push_back(
        std::ldexp(mantissa + static_cast<float>(random() % 3) * 1e-7f, static_cast<int>(random() % 60) - 35));
  }
  return values;
}

/// The value rounded to `digits` binary places in float64, to the nearest, ties to even.
double rounded(float value, int digits, int least_exponent) {
  if (value == 0.0f || !std::isfinite(value)) return value;
  int exponent = 0;
  std::frexp(value, &exponent);
  const int unit = std::max(exponent - digits, least_exponent);
  return std::ldexp(std::nearbyint(std::ldexp(static_cast<double>(value), -unit)), unit);
}

template <class T>
void check_16_bits(int digits, int least_exponent, double largest) {
  const auto values = delicate_floats();
  const DeviceArray<float> in(values), out(3 * values.size(), -7.0f);
  const DeviceArray<uint32_t> bits(2 * values.size(), 0);
  ASSERT_EQ(launch(round_trip<T>, {{1, 1, 1}, 64}, nullptr, in.data(), bits.data(), out.data(),
                   static_cast<int>(values.size())),
            "");
  const auto found = out.download();
  const auto found_bits = bits.download();
  for (size_t i = 0; i < values.size(); ++i) {
    if (std::isnan(values[i])) {
      EXPECT_EQ(found_bits[2 * i], 0x7FFFu);
      EXPECT_TRUE(std::isnan(found[3 * i]) && std::isnan(found[3 * i + 1]) && std::isnan(found[3 * i + 2]));
      continue;
    }
    double expected = rounded(values[i], digits, least_exponent);
    if (std::abs(expected) > largest) expected = std::copysign(kInfinity, expected);
    EXPECT_EQ(found[3 * i], expected) << values[i];
    EXPECT_EQ(std::signbit(found[3 * i]), std::signbit(values[i]));
    EXPECT_EQ(found[3 * i + 1], expected);
    EXPECT_EQ(found[3 * i + 2], -expected);
    EXPECT_EQ(found_bits[2 * i], found_bits[2 * i + 1] & 0xFFFFu);
  }
}

TEST_F(Cuda, Bfloat16) { check_16_bits<bfloat16_t>(8, -133, 3.3895313892515355e38); }
TEST_F(Cuda, Float16) { check_16_bits<float16_t>(11, -24, 65504.0); }

HOPFIELD_KERNEL void apply_functions(const float* in, float* out, int count) {
  for (int i = thread_index(); i < count; i += block_size()) {
    const float value = in[i];
    out[5 * i] = bits_float(to_tf32(value));
    out[5 * i + 1] = fast_exp2(value);
    out[5 * i + 2] = fast_log2(fabsf(value));
    out[5 * i + 3] = fast_rsqrt(fabsf(value));
    out[5 * i + 4] = fused_multiply_add(value, value, -bits_float(float_bits(value) & 0xFFFF0000u));
  }
}

TEST_F(Cuda, FunctionsOfFloats) {
  auto values = random_floats(500, 5);
  values.insert(values.end(), {1.0f + 0x1p-11f, -1.0f - 0x1p-11f, 1.0f + 3 * 0x1p-11f, -100.0f, 20.0f});
  const DeviceArray<float> in(values), out(5 * values.size(), NAN);
  ASSERT_EQ(launch(apply_functions, {{1, 1, 1}, 32}, nullptr, in.data(), out.data(), static_cast<int>(values.size())),
            "");
  const auto found = out.download();
  for (size_t i = 0; i < values.size(); ++i) {
    const double value = values[i];
    int exponent = 0;
    std::frexp(value, &exponent);
    EXPECT_EQ(found[5 * i], std::ldexp(std::round(std::ldexp(value, 11 - exponent)), exponent - 11));
    const double power = std::exp2(value), logarithm = std::log2(std::abs(value)), root = std::sqrt(std::abs(value));
    EXPECT_NEAR(found[5 * i + 1], power, kExp2Error * power);
    EXPECT_NEAR(found[5 * i + 2], logarithm, kLog2Error * std::max(1.0, std::abs(logarithm)));
    EXPECT_NEAR(found[5 * i + 3], 1 / root, kRsqrtError / root);
    uint32_t bits;
    std::memcpy(&bits, &values[i], 4);
    bits &= 0xFFFF0000u;
    float upper;
    std::memcpy(&upper, &bits, 4);
    EXPECT_EQ(found[5 * i + 4], std::fma(values[i], values[i], -upper));
  }
}

HOPFIELD_KERNEL void exp2_of(const float* in, float* out) { out[thread_index()] = fast_exp2(in[thread_index()]); }

TEST_F(Cuda, Exp2OfMinusInfinityIsZero) {
  const DeviceArray<float> in(32, -kInfinity), out(32, NAN);
  ASSERT_EQ(launch(exp2_of, {{1, 1, 1}, 32}, nullptr, in.data(), out.data()), "");
  EXPECT_EQ(out.download(), std::vector<float>(32, 0.0f));
}

}  // namespace
}  // namespace hopfield::kernels::cuda
