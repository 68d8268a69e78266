#pragma once

// Products by a warpgroup: four warps, the first a multiple of four, that multiply matrices of bfloat16 while their
// threads do other things (wgmma, on compute capability 9.0 alone). A product is A B with A of 64 rows, 16 for each
// warp. A lane holds of C and of A, if that is in registers, what mma.h says for its warp's 16 rows: c[j] are columns
// 8 j .. of C.
//
// Products are started and waited for in this order: hold_registers() of all registers that they read or add to and
// that were written, fence_products(), the products, commit_products(), wait_products<>(), hold_registers() of the
// results. While the products are under way, these registers may neither be read nor written.
//
// Operands in shared memory are tiles: rows of 64 numbers, 128 bytes, one below the other, the 16-byte pieces of each
// row in the order that swizzled_piece() gives. Wider ones are several tiles, one behind the other.

#include <kernels/cuda/async_copy.h>

#include <cstdint>

namespace hopfield::kernels::cuda {

constexpr int kWarpgroup = 128;

/// Numbers of a tile's row.
constexpr int kTileColumns = 64;

/// Bytes of a tile's row, and the alignment of a tile. It is 8 rows, after which the order of pieces repeats.
constexpr int kTileRowBytes = 128, kTileAlignment = 1024;

/// Where piece `piece` (8 numbers) of row `row` lies in its row.
HOPFIELD_DEVICE constexpr int swizzled_piece(int row, int piece) { return piece ^ (row & 7); }

/// How a product sees the tiles of B: a tile's row is a column of B (K-major: scores of stored patterns), or a row of B
/// (MN-major: sums of patterns).
enum class TileView : uint8_t { columns, rows };

/// An operand in shared memory as products take it.
/// @param first       its first row of a tile (A, columns: any piece of that row; rows: a multiple of 8)
/// @param tile_bytes  in the view `rows` from 64 columns to the next 64; the view `columns` does not use it
HOPFIELD_DEVICE uint64_t tile_operand(const void* first, int tile_bytes = 16) {
  constexpr uint64_t kSwizzle128Bytes = uint64_t{1} << 62, kEightRows = uint64_t{kTileAlignment / 16} << 32;
  return kSwizzle128Bytes | kEightRows | static_cast<uint64_t>(tile_bytes / 16) << 16 |
         (shared_address(first) & 0x3FFFFu) >> 4;
}

/// The same operand, beginning `bytes` further on: a multiple of 16.
HOPFIELD_DEVICE uint64_t operand_behind(uint64_t operand, int bytes) {
  return operand + static_cast<uint64_t>(bytes / 16);
}

/// Makes what was written to registers visible to the products that follow.
HOPFIELD_DEVICE void fence_products() {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#elif defined(__CUDACC__)
  __trap();
#else
  cuda_on_host::fence_products();
#endif
}

/// Makes a group of the products since the last call.
HOPFIELD_DEVICE void commit_products() {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
#elif defined(__CUDACC__)
  __trap();
#else
  cuda_on_host::commit_products();
#endif
}

/// Waits for all groups of this warp but the latest `pending`.
template <int pending>
HOPFIELD_DEVICE void wait_products() {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(pending) : "memory");
#elif defined(__CUDACC__)
  __trap();
#else
  cuda_on_host::wait_products(pending);
#endif
}

/// Keeps the compiler from moving accesses to these registers across this place. It does not know that a product goes
/// on behind the instruction that starts it.
template <int count>
HOPFIELD_DEVICE void hold_registers(float (&registers)[count][4]) {
#if defined(__CUDACC__)
  HOPFIELD_UNROLL
  for (int i = 0; i < count; ++i) {
    HOPFIELD_UNROLL
    for (int k = 0; k < 4; ++k) asm volatile("" : "+f"(registers[i][k])::"memory");
  }
#else
  static_cast<void>(registers);
#endif
}
template <int count>
HOPFIELD_DEVICE void hold_registers(uint32_t (&registers)[count][4]) {
#if defined(__CUDACC__)
  HOPFIELD_UNROLL
  for (int i = 0; i < count; ++i) {
    HOPFIELD_UNROLL
    for (int k = 0; k < 4; ++k) asm volatile("" : "+r"(registers[i][k])::"memory");
  }
#else
  static_cast<void>(registers);
#endif
}

// clang-format off
#define HOPFIELD_NAMES_32                                                                                          \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "                                         \
  "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define HOPFIELD_NAMES_64 HOPFIELD_NAMES_32                                                                        \
  ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "                             \
  "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define HOPFIELD_SUMS_4(c, j) "+f"(c[j][0]), "+f"(c[j][1]), "+f"(c[j][2]), "+f"(c[j][3])
#define HOPFIELD_SUMS_16(c, j) \
  HOPFIELD_SUMS_4(c, j), HOPFIELD_SUMS_4(c, j + 1), HOPFIELD_SUMS_4(c, j + 2), HOPFIELD_SUMS_4(c, j + 3)
#define HOPFIELD_SUMS_32(c, j) HOPFIELD_SUMS_16(c, j), HOPFIELD_SUMS_16(c, j + 4)
#define HOPFIELD_SUMS_64(c, j) HOPFIELD_SUMS_32(c, j), HOPFIELD_SUMS_32(c, j + 8)
// clang-format on

/// Starts C = A B, or C += A B where it `adds`, over 16 numbers of A's rows. A is a tile of 64 rows in shared memory.
template <TileView view, int eighths>
HOPFIELD_DEVICE void multiply_async(float (&c)[eighths][4], uint64_t a, uint64_t b, bool adds) {
  static_assert(eighths == 8 || eighths == 16, "a warpgroup multiplies with 64 or 128 columns");
  constexpr int kRows = view == TileView::rows ? 1 : 0;
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  if constexpr (eighths == 8) {
    asm volatile(
        "{\n.reg .pred adds;\nsetp.ne.b32 adds, %34, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {" HOPFIELD_NAMES_32 "}, %32, %33, adds, 1, 1, 0, %35;\n}"
        : HOPFIELD_SUMS_32(c, 0)
        : "l"(a), "l"(b), "r"(static_cast<int>(adds)), "n"(kRows));
  } else {
    asm volatile(
        "{\n.reg .pred adds;\nsetp.ne.b32 adds, %66, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {" HOPFIELD_NAMES_64
        "}, %64, %65, adds, 1, 1, 0, %67;\n}"
        : HOPFIELD_SUMS_64(c, 0)
        : "l"(a), "l"(b), "r"(static_cast<int>(adds)), "n"(kRows));
  }
#elif defined(__CUDACC__)
  __trap();
#else
  cuda_on_host::multiply_async(c[0], eighths, a, b, kRows != 0, adds);
#endif
}

/// As above, with A in registers.
template <TileView view, int eighths>
HOPFIELD_DEVICE void multiply_async(float (&c)[eighths][4], const uint32_t (&a)[4], uint64_t b, bool adds) {
  static_assert(eighths == 8 || eighths == 16, "a warpgroup multiplies with 64 or 128 columns");
  constexpr int kRows = view == TileView::rows ? 1 : 0;
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  if constexpr (eighths == 8) {
    asm volatile(
        "{\n.reg .pred adds;\nsetp.ne.b32 adds, %37, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {" HOPFIELD_NAMES_32
        "}, {%32, %33, %34, %35}, %36, adds, 1, 1, %38;\n}"
        : HOPFIELD_SUMS_32(c, 0)
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(static_cast<int>(adds)), "n"(kRows));
  } else {
    asm volatile(
        "{\n.reg .pred adds;\nsetp.ne.b32 adds, %69, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {" HOPFIELD_NAMES_64
        "}, {%64, %65, %66, %67}, %68, adds, 1, 1, %70;\n}"
        : HOPFIELD_SUMS_64(c, 0)
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(static_cast<int>(adds)), "n"(kRows));
  }
#elif defined(__CUDACC__)
  __trap();
#else
  cuda_on_host::multiply_async(c[0], eighths, a, b, kRows != 0, adds);
#endif
}

#undef HOPFIELD_NAMES_32
#undef HOPFIELD_NAMES_64
#undef HOPFIELD_SUMS_4
#undef HOPFIELD_SUMS_16
#undef HOPFIELD_SUMS_32
#undef HOPFIELD_SUMS_64

/// Leaves each thread of the calling warpgroup `registers` registers, fewer than before and a multiple of 8. Called by
/// all of its warps. The launch bounds of the kernel have to name its blocks per multiprocessor.
template <int registers>
HOPFIELD_DEVICE void give_back_registers() {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(registers));
#endif
}

/// Gets the threads more registers, and waits until others have given so many back.
template <int registers>
HOPFIELD_DEVICE void claim_registers() {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(registers));
#endif
}

}  // namespace hopfield::kernels::cuda
