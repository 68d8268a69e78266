#pragma once

// The host bodies of kernels/cuda/warpgroup_mma.h. A product is made as late as a correct program allows: when it is
// waited for. Only then operands in shared memory are read. Until then its sums hold NaN, and the launch fails if a
// thread has written them. Each warp makes its own 16 rows and does not wait for the other warps. Memory of kernels is
// read in this header only, which is compiled with the sanitizers.

#include "cuda_on_host/arithmetic.h"
#include "cuda_on_host/device.h"
#include "cuda_on_host/numbers.h"

#include <array>
#include <cstdint>
#include <cstring>
#include <map>
#include <vector>

namespace hopfield::cuda_on_host {

/// A product as the calling lane sees it: its two rows of A and C.
struct WarpgroupProduct {
  float* sums = nullptr;  // [eighths][4]
  int eighths = 0;
  uint64_t a = 0, b = 0;  // descriptors
  bool rows_view = false, adds = false;
  const uint32_t* registers = nullptr;  // of A, null where it lies in shared memory
  std::array<uint32_t, 4> registers_were{};
  std::array<Factors, 2> a_rows{};
  int group = 0;
};

/// A thread's products under way.
struct WarpgroupState {
  bool fenced = false;
  int groups = 0;  // committed
  std::vector<WarpgroupProduct> products;
  std::map<float*, std::vector<float>> sums;  // what the registers will hold when it has ended
};

void fence_products();
void commit_products();
void queue_product(const WarpgroupProduct& product);

/// The A of a lane's rows, from the registers of the four lanes that have them.
std::array<Factors, 2> gather_rows(const uint32_t* registers);

/// The next product of the calling thread that has to end before only `pending` groups are left; null if there is none.
bool take_product(int pending, WarpgroupProduct& product);

/// `b_columns`: the lane's columns 8 j + 2 c and 8 j + 2 c + 1 of B.
void carry_out(const WarpgroupProduct& product, const std::vector<std::array<Factors, 2>>& b_columns);

/// Gives back the registers of products that are not under way any more.
void finish_products();

/// The contents of a descriptor, in bytes.
struct OperandPlace {
  uint32_t begin, leading, stride;

  explicit OperandPlace(uint64_t descriptor)
      : begin(static_cast<uint32_t>(descriptor & 0x3FFFu) << 4),
        leading(static_cast<uint32_t>(descriptor >> 16 & 0x3FFFu) << 4),
        stride(static_cast<uint32_t>(descriptor >> 32 & 0x3FFFu) << 4) {
    require(descriptor >> 62 == 1, "of the swizzles of wgmma only that of 128 bytes is known here");
    require((descriptor >> 49 & 7u) == 0, "an operand's pattern of pieces begins at a multiple of 1024 bytes");
  }

  static float number(uint32_t address) {
    uint16_t bits;
    std::memcpy(&bits, at_shared_address(swizzled(address)), 2);
    return float_of_bfloat16(bits);
  }
  /// K-major, row r of A or column r of B: 8 rows of 128 bytes, then a stride.
  float along_rows(int r, int k) const {
    const auto row = static_cast<uint32_t>(r), column = static_cast<uint32_t>(k);
    return number(begin + row / 8 * stride + row % 8 * 128 + 2 * column);
  }
  /// MN-major: 64 columns of B, then the leading offset; 8 of its rows, then a stride.
  float across_rows(int n, int k) const {
    const auto column = static_cast<uint32_t>(n), row = static_cast<uint32_t>(k);
    return number(begin + column / 64 * leading + row / 8 * stride + row % 8 * 128 + 2 * (column % 64));
  }
};

inline void wait_products(int pending) {
  const int lane = position().thread % 32, warp = position().thread / 32 % 4;
  WarpgroupProduct product;
  while (take_product(pending, product)) {
    if (product.registers == nullptr) {
      const OperandPlace a(product.a);
      for (int i = 0; i < 32; ++i) {
        product.a_rows[static_cast<size_t>(i / 16)][static_cast<size_t>(i % 16)] =
            a.along_rows(16 * warp + lane / 4 + i / 16 * 8, i % 16);
      }
    } else {
      require(std::memcmp(product.registers, product.registers_were.data(), 16) == 0,
              "registers of A were written while a product was under way");
    }
    const OperandPlace b(product.b);
    std::vector<std::array<Factors, 2>> columns(static_cast<size_t>(product.eighths));
    for (int j = 0; j < 2 * product.eighths; ++j) {
      const int column = j / 2 * 8 + lane % 4 * 2 + j % 2;
      for (int k = 0; k < 16; ++k) {
        columns[static_cast<size_t>(j / 2)][static_cast<size_t>(j % 2)][static_cast<size_t>(k)] =
            product.rows_view ? b.across_rows(column, k) : b.along_rows(column, k);
      }
    }
    carry_out(product, columns);
  }
  finish_products();
  sync_warp();  // when a lane goes on, no lane of its warp reads an operand any more
}

inline void multiply_async(float* sums, int eighths, uint64_t a, uint64_t b, bool rows_view, bool adds) {
  WarpgroupProduct product;
  product.sums = sums, product.eighths = eighths, product.a = a, product.b = b;
  product.rows_view = rows_view, product.adds = adds;
  queue_product(product);
}

inline void multiply_async(float* sums, int eighths, const uint32_t* a, uint64_t b, bool rows_view, bool adds) {
  WarpgroupProduct product;
  product.sums = sums, product.eighths = eighths, product.b = b;
  product.rows_view = rows_view, product.adds = adds;
  product.registers = a;
  std::memcpy(product.registers_were.data(), a, 16);
  product.a_rows = gather_rows(a);
  queue_product(product);
}

}  // namespace hopfield::cuda_on_host
