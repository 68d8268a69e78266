#include "cuda_on_host/warp.h"

#include "cuda_on_host/arithmetic.h"
#include "cuda_on_host/machine.h"
#include "cuda_on_host/numbers.h"

namespace hopfield::cuda_on_host {
namespace {

int lane() { return position().thread % 32; }

/// The contributions of all lanes. They stay as they are until this lane's next warp-wide call.
const std::array<Slot, 32>& exchange(const char* place, const Slot& mine) {
  auto& warp = *current().warp;
  auto& slots = warp.slots[warp.exchange.round % 2];
  slots[static_cast<size_t>(lane())] = mine;
  await(warp.exchange, place, arrive(warp.exchange, place, 32, false), false);
  return slots;
}

const std::array<Slot, 32>& exchange_word(const char* place, uint32_t word) {
  Slot mine{};
  mine.words[0] = word;
  return exchange(place, mine);
}

float float_of_half(Number number, uint32_t bits) {
  const auto half = static_cast<uint16_t>(bits);
  return number == Number::kBfloat16 ? float_of_bfloat16(half) : float_of_float16(half);
}

/// c of lane (row, column pair) += sum over k of a(row, k) b(k, column), with a and b given as functions of the slots.
template <class A, class B>
void multiply(float* c, Product product, int inner, const A& a, const B& b) {
  const int row = lane() / 4, column = lane() % 4 * 2;
  std::array<Factors, 2> rows, columns;
  for (int half = 0; half < 2; ++half) {
    auto &left = rows[static_cast<size_t>(half)], &right = columns[static_cast<size_t>(half)];
    for (int k = 0; k < inner; ++k) {
      left[static_cast<size_t>(k)] = a(row + 8 * half, k);
      right[static_cast<size_t>(k)] = b(k, column + half);
    }
  }
  add_products(product, rows, columns, c);
}

}  // namespace

uint32_t shuffle_bits(uint32_t bits, int source_lane) {
  return exchange_word("a shuffle", bits)[static_cast<size_t>(source_lane & 31)].words[0];
}

uint32_t ballot(bool vote) {
  const auto& slots = exchange_word("a vote", vote ? 1 : 0);
  uint32_t votes = 0;
  for (size_t i = 0; i < 32; ++i) votes |= slots[i].words[0] << i;
  return votes;
}

void distribute_matrices(uint32_t* registers, int matrices, bool transposed, const MatrixRow& row) {
  Slot mine{};
  for (size_t i = 0; i < 4; ++i) mine.words[i] = row[i];
  const auto& slots = exchange("ldmatrix", mine);
  for (int i = 0; i < matrices; ++i) {
    const auto number = [&](int r, int column) {
      const auto pair = slots[static_cast<size_t>(8 * i + r)].words[static_cast<size_t>(column / 2)];
      return column % 2 ? pair >> 16 : pair & 0xFFFFu;
    };
    const int major = lane() / 4, minor = lane() % 4 * 2;
    registers[i] = transposed ? number(minor, major) | number(minor + 1, major) << 16
                              : number(major, minor) | number(major, minor + 1) << 16;
  }
}

void mma_m16n8k16(Number number, float* c, const uint32_t* a, const uint32_t* b) {
  // Each lane converts its own numbers: words 0 to 7 are those of a, 8 to 11 those of b.
  Slot mine;
  for (int i = 0; i < 6; ++i) {
    const auto pair = i < 4 ? a[i] : b[i - 4];
    mine.words[static_cast<size_t>(2 * i)] = bits_of(float_of_half(number, pair & 0xFFFFu));
    mine.words[static_cast<size_t>(2 * i + 1)] = bits_of(float_of_half(number, pair >> 16));
  }
  const auto& slots = exchange("mma", mine);
  multiply(
      c, Product::of_16_bits, 16,
      [&](int row, int k) {
        const int owner = row % 8 * 4 + k % 8 / 2, place = row / 8 * 2 + k / 8 * 4 + k % 2;
        return float_of(slots[static_cast<size_t>(owner)].words[static_cast<size_t>(place)]);
      },
      [&](int k, int column) {
        const int owner = column * 4 + k % 8 / 2, place = 8 + k / 8 * 2 + k % 2;
        return float_of(slots[static_cast<size_t>(owner)].words[static_cast<size_t>(place)]);
      });
}

void mma_m16n8k8_tf32(float* c, const uint32_t* a, const uint32_t* b) {
  constexpr uint32_t kRead = ~0x1FFFu;  // the device reads no more than 10 bits of mantissa
  Slot mine{};
  for (size_t i = 0; i < 4; ++i) mine.words[i] = a[i] & kRead;
  for (size_t i = 0; i < 2; ++i) mine.words[4 + i] = b[i] & kRead;
  const auto& slots = exchange("mma", mine);
  multiply(
      c, Product::of_tf32, 8,
      [&](int row, int k) {
        return float_of(
            slots[static_cast<size_t>(row % 8 * 4 + k % 4)].words[static_cast<size_t>(row / 8 + k / 4 * 2)]);
      },
      [&](int k, int column) {
        return float_of(slots[static_cast<size_t>(column * 4 + k % 4)].words[static_cast<size_t>(4 + k / 4)]);
      });
}

}  // namespace hopfield::cuda_on_host
