#include "../../support/hardware_errors.h"
#include "harness.h"

#include <kernels/cuda/mma.h>

#include <cmath>

namespace hopfield::kernels::cuda {
namespace {

/// Every lane writes its registers.
template <int matrices, bool transposed>
HOPFIELD_KERNEL void read_matrices(const uint32_t* in, uint32_t* out) {
  auto* shared = shared_memory<uint32_t>();  // 8 * matrices rows of 4 words, 8 words apart
  const int lane = lane_index();
  for (int i = lane; i < 32 * matrices; i += 32) shared[i / 4 * 8 + i % 4] = in[i];
  sync_warp();
  uint32_t registers[matrices];
  const uint32_t* row = shared + (lane < 8 * matrices ? lane : 0) * 8;
  if constexpr (transposed) {
    ldmatrix_transposed<matrices>(registers, row);
  } else {
    ldmatrix<matrices>(registers, row);
  }
  for (int i = 0; i < matrices; ++i) out[matrices * lane + i] = registers[i];
}

template <int matrices, bool transposed>
void check_ldmatrix() {
  // The number in row r, column k of matrix i is 64 i + 8 r + k.
  std::vector<uint32_t> words(32 * matrices);
  for (size_t i = 0; i < words.size(); ++i) words[i] = static_cast<uint32_t>(2 * i | (2 * i + 1) << 16);
  const DeviceArray<uint32_t> in(words), out(32 * matrices, 0);
  constexpr auto kKernel = read_matrices<matrices, transposed>;
  ASSERT_EQ(launch(kKernel, {{1, 1, 1}, 32, 256 * matrices}, nullptr, in.data(), out.data()), "");
  const auto found = out.download();
  for (uint32_t lane = 0; lane < 32; ++lane) {
    for (uint32_t i = 0; i < matrices; ++i) {
      const uint32_t g = lane / 4, c = lane % 4;
      const uint32_t first = 64 * i + (transposed ? 8 * (2 * c) + g : 8 * g + 2 * c);
      const uint32_t second = transposed ? first + 8 : first + 1;
      EXPECT_EQ(found[matrices * lane + i], first | second << 16) << "lane " << lane << ", matrix " << i;
    }
  }
}

TEST_F(Cuda, Ldmatrix) {
  check_ldmatrix<1, false>();
  check_ldmatrix<2, false>();
  check_ldmatrix<4, false>();
}

TEST_F(Cuda, LdmatrixTransposed) {
  check_ldmatrix<1, true>();
  check_ldmatrix<2, true>();
  check_ldmatrix<4, true>();
}

/// C += A B for A [16, 16], B [16, 8] and C [16, 8], with fragments that are put together number by number.
template <class T>
HOPFIELD_KERNEL void multiply_16_bits(const float* a, const float* b, float* c) {
  const int g = lane_index() / 4, k = lane_index() % 4 * 2;
  const uint32_t a_registers[4] = {pack_pair<T>(a[16 * g + k], a[16 * g + k + 1]),
                                   pack_pair<T>(a[16 * (g + 8) + k], a[16 * (g + 8) + k + 1]),
                                   pack_pair<T>(a[16 * g + k + 8], a[16 * g + k + 9]),
                                   pack_pair<T>(a[16 * (g + 8) + k + 8], a[16 * (g + 8) + k + 9])};
  const uint32_t b_registers[2] = {pack_pair<T>(b[8 * k + g], b[8 * (k + 1) + g]),
                                   pack_pair<T>(b[8 * (k + 8) + g], b[8 * (k + 9) + g])};
  float sums[4] = {c[8 * g + k], c[8 * g + k + 1], c[8 * (g + 8) + k], c[8 * (g + 8) + k + 1]};
  mma_m16n8k16<T>(sums, a_registers, b_registers);
  c[8 * g + k] = sums[0], c[8 * g + k + 1] = sums[1], c[8 * (g + 8) + k] = sums[2], c[8 * (g + 8) + k + 1] = sums[3];
}

/// C += A B for A [16, 8] and B [8, 8].
HOPFIELD_KERNEL void multiply_tf32(const float* a, const float* b, float* c) {
  const int g = lane_index() / 4, k = lane_index() % 4;
  const uint32_t a_registers[4] = {to_tf32(a[8 * g + k]), to_tf32(a[8 * (g + 8) + k]), to_tf32(a[8 * g + k + 4]),
                                   to_tf32(a[8 * (g + 8) + k + 4])};
  const uint32_t b_registers[2] = {to_tf32(b[8 * k + g]), to_tf32(b[8 * (k + 4) + g])};
  float sums[4] = {c[8 * g + 2 * k], c[8 * g + 2 * k + 1], c[8 * (g + 8) + 2 * k], c[8 * (g + 8) + 2 * k + 1]};
  mma_m16n8k8_tf32(sums, a_registers, b_registers);
  c[8 * g + 2 * k] = sums[0], c[8 * g + 2 * k + 1] = sums[1];
  c[8 * (g + 8) + 2 * k] = sums[2], c[8 * (g + 8) + 2 * k + 1] = sums[3];
}

/// A random number with `digits` binary places.
float rounded(float value, int digits) {
  int exponent = 0;
  std::frexp(value, &exponent);
  return std::ldexp(std::nearbyint(std::ldexp(value, digits - exponent)), exponent - digits);
}

/// Compares with a sum in float64, which may be off as hardware_errors.h says.
void check_product(void (*kernel)(const float*, const float*, float*), size_t inner, int digits, size_t at_once) {
  auto a = random_floats(16 * inner, 6), b = random_floats(inner * 8, 7);
  const auto c = random_floats(16 * 8, 8);
  const DeviceArray<float> a_device(a), b_device(b), c_device(c);
  ASSERT_EQ(launch(kernel, {{1, 1, 1}, 32}, nullptr, a_device.data(), b_device.data(), c_device.data()), "");
  const auto found = c_device.download();
  for (auto* operand : {&a, &b}) {
    for (auto& value : *operand) value = rounded(value, digits);
  }
  for (size_t row = 0; row < 16; ++row) {
    for (size_t column = 0; column < 8; ++column) {
      double sum = c[8 * row + column], magnitude = std::abs(sum), largest = magnitude;
      for (size_t k = 0; k < inner; ++k) {
        const double product = static_cast<double>(a[inner * row + k]) * b[8 * k + column];
        sum += product, magnitude += std::abs(product), largest = std::max(largest, std::abs(product));
      }
      const double once = (magnitude + largest * static_cast<double>(at_once) / 2) * hopfield::testing::kCutOff;
      const double bound = once * static_cast<double>(inner / at_once);
      EXPECT_NEAR(found[8 * row + column], sum, bound) << row << ", " << column;
    }
  }
}

TEST_F(Cuda, ProductOfBfloat16) { check_product(multiply_16_bits<bfloat16_t>, 16, 8, 8); }
TEST_F(Cuda, ProductOfFloat16) { check_product(multiply_16_bits<float16_t>, 16, 11, 8); }
TEST_F(Cuda, ProductOfTf32) { check_product(multiply_tf32, 8, 11, 4); }

/// Scores and update of one 16 x 16 tile, both from the same stored patterns in shared memory: S = X K^T, Z = S K.
template <class T>
HOPFIELD_KERNEL void score_and_update(const float* x, const float* stored, float* scores, float* updated) {
  auto* k_tile = shared_memory<T>();  // [16, 16], rows 24 apart
  auto* x_tile = k_tile + 16 * 24;
  const int lane = lane_index(), g = lane / 4, c = lane % 4 * 2;
  for (int i = lane; i < 256; i += 32) {
    k_tile[i / 16 * 24 + i % 16] = from_float<T>(stored[i]);
    x_tile[i / 16 * 24 + i % 16] = from_float<T>(x[i]);
  }
  sync_warp();
  uint32_t a[4], b[4];
  ldmatrix<4>(a, x_tile + lane % 16 * 24 + lane / 16 * 8);
  ldmatrix<4>(b, k_tile + (lane % 8 + lane / 16 * 8) * 24 + lane / 8 % 2 * 8);
  float s[2][4] = {};
  for (int half = 0; half < 2; ++half) mma_m16n8k16<T>(s[half], a, {b[2 * half], b[2 * half + 1]});
  const uint32_t p[4] = {pack_pair<T>(s[0][0], s[0][1]), pack_pair<T>(s[0][2], s[0][3]), pack_pair<T>(s[1][0], s[1][1]),
                         pack_pair<T>(s[1][2], s[1][3])};
  ldmatrix_transposed<4>(b, k_tile + lane % 16 * 24 + lane / 16 * 8);
  float z[2][4] = {};
  for (int half = 0; half < 2; ++half) mma_m16n8k16<T>(z[half], p, {b[2 * half], b[2 * half + 1]});
  for (int half = 0; half < 2; ++half) {
    for (int i = 0; i < 4; ++i) {
      const int at = 16 * (g + i / 2 * 8) + 8 * half + c + i % 2;
      scores[at] = s[half][i], updated[at] = z[half][i];
    }
  }
}

TEST_F(Cuda, OneTileServesBothProducts) {
  // With small integers everything is exact.
  std::mt19937 random(9);
  std::vector<float> x(256), stored(256);
  for (auto& value : x) value = static_cast<float>(random() % 3) - 1.0f;
  for (auto& value : stored) value = static_cast<float>(random() % 3) - 1.0f;
  const DeviceArray<float> x_device(x), stored_device(stored), scores(256, NAN), updated(256, NAN);
  ASSERT_EQ(launch(score_and_update<bfloat16_t>, {{1, 1, 1}, 32, 2 * 16 * 24 * sizeof(uint16_t)}, nullptr,
                   x_device.data(), stored_device.data(), scores.data(), updated.data()),
            "");
  const auto s = scores.download(), z = updated.download();
  for (size_t row = 0; row < 16; ++row) {
    for (size_t column = 0; column < 16; ++column) {
      float score = 0, update = 0;
      for (size_t k = 0; k < 16; ++k) {
        score += x[16 * row + k] * stored[16 * column + k];
        update += s[16 * row + k] * stored[16 * k + column];
      }
      EXPECT_EQ(s[16 * row + column], score);
      EXPECT_EQ(z[16 * row + column], update);
    }
  }
}

}  // namespace
}  // namespace hopfield::kernels::cuda
