#pragma once

// Products of small matrices by a warp. With g = lane / 4 and c = lane % 4, a lane holds
//
//   of A (16 x 16 numbers of 16 bits): registers 0..3 = rows g, g + 8, g, g + 8; columns 2c, 2c + 1, in 2 and 3 plus 8
//   of B (16 x 8):                     registers 0, 1 = column g, rows 2c, 2c + 1, in 1 plus 8
//   of C (16 x 8 floats):              0, 1 = row g, columns 2c, 2c + 1; 2, 3 = row g + 8
//
// and in tf32 of A (16 x 8): registers 0..3 = rows g, g + 8, g, g + 8, column c, in 2 and 3 plus 4; of B (8 x 8):
// registers 0, 1 = column g, row c, in 1 plus 4.

#include <kernels/cuda/async_copy.h>
#include <kernels/cuda/numbers.h>

#include <cstdint>

namespace hopfield::kernels::cuda {

/// Reads `matrices` (1, 2 or 4) 8 x 8 matrices of 16-bit numbers from shared memory: lane 8 i + r names the address of
/// row r of matrix i, aligned to 16 bytes; the addresses of lanes from 8 * matrices on do not matter. Register i of a
/// lane gets row g, columns 2c and 2c + 1 of matrix i.
template <int matrices>
HOPFIELD_DEVICE void ldmatrix(uint32_t (&registers)[matrices], const void* row) {
  static_assert(matrices == 1 || matrices == 2 || matrices == 4, "ldmatrix reads 1, 2 or 4 matrices");
#if defined(__CUDACC__)
  if constexpr (matrices == 1) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%0}, [%1];"
                 : "=r"(registers[0])
                 : "r"(shared_address(row))
                 : "memory");
  } else if constexpr (matrices == 2) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];"
                 : "=r"(registers[0]), "=r"(registers[1])
                 : "r"(shared_address(row))
                 : "memory");
  } else {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(registers[0]), "=r"(registers[1]), "=r"(registers[2]), "=r"(registers[3])
                 : "r"(shared_address(row))
                 : "memory");
  }
#else
  cuda_on_host::ldmatrix(registers, matrices, false, row);
#endif
}

/// As ldmatrix, of the transposed matrices: register i gets rows 2c and 2c + 1, column g of matrix i as it lies in
/// memory.
template <int matrices>
HOPFIELD_DEVICE void ldmatrix_transposed(uint32_t (&registers)[matrices], const void* row) {
  static_assert(matrices == 1 || matrices == 2 || matrices == 4, "ldmatrix reads 1, 2 or 4 matrices");
#if defined(__CUDACC__)
  if constexpr (matrices == 1) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x1.trans.shared.b16 {%0}, [%1];"
                 : "=r"(registers[0])
                 : "r"(shared_address(row))
                 : "memory");
  } else if constexpr (matrices == 2) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];"
                 : "=r"(registers[0]), "=r"(registers[1])
                 : "r"(shared_address(row))
                 : "memory");
  } else {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(registers[0]), "=r"(registers[1]), "=r"(registers[2]), "=r"(registers[3])
                 : "r"(shared_address(row))
                 : "memory");
  }
#else
  cuda_on_host::ldmatrix(registers, matrices, true, row);
#endif
}

/// c += a b, for T = bfloat16_t or float16_t.
template <class T>
HOPFIELD_DEVICE void mma_m16n8k16(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  constexpr bool kBfloat16 = std::is_same_v<T, bfloat16_t>;
  static_assert(kBfloat16 || std::is_same_v<T, float16_t>, "mma_m16n8k16 multiplies bfloat16_t or float16_t");
#if defined(__CUDACC__)
  if constexpr (kBfloat16) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  } else {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  }
#else
  cuda_on_host::mma_m16n8k16(kBfloat16 ? cuda_on_host::Number::kBfloat16 : cuda_on_host::Number::kFloat16, c, a, b);
#endif
}

/// c += a b for operands made by to_tf32; of other floats the lower 13 bits are not read.
HOPFIELD_DEVICE void mma_m16n8k8_tf32(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
#if defined(__CUDACC__)
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
  cuda_on_host::mma_m16n8k8_tf32(c, a, b);
#endif
}

}  // namespace hopfield::kernels::cuda
