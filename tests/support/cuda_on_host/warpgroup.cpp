#include "cuda_on_host/warpgroup.h"

#include "cuda_on_host/machine.h"
#include "cuda_on_host/warp.h"

#include <algorithm>

namespace hopfield::cuda_on_host {
namespace {

constexpr uint32_t kUnderWay = 0xFFFFFFFFu;  // NaN

size_t count(const WarpgroupProduct& product) { return static_cast<size_t>(4 * product.eighths); }

}  // namespace

void fence_products() { current().warpgroup.fenced = true; }

void commit_products() { ++current().warpgroup.groups; }

std::array<Factors, 2> gather_rows(const uint32_t* registers) {
  const int lane = position().thread % 32;
  std::array<Factors, 2> rows;
  for (int owner = 0; owner < 4; ++owner) {
    for (int i = 0; i < 4; ++i) {
      const auto pair = shuffle_bits(registers[i], lane / 4 * 4 + owner);
      auto& row = rows[static_cast<size_t>(i % 2)];
      const auto k = static_cast<size_t>(i / 2 * 8 + 2 * owner);
      row[k] = float_of_bfloat16(static_cast<uint16_t>(pair & 0xFFFFu));
      row[k + 1] = float_of_bfloat16(static_cast<uint16_t>(pair >> 16));
    }
  }
  return rows;
}

void queue_product(const WarpgroupProduct& product) {
  const Quiet quiet;
  auto& state = current().warpgroup;
  require(position().threads % 128 == 0, "a block whose warpgroups multiply is made of whole warpgroups");
  require(state.fenced, "fence_products() has to come between an access to registers and a product of them");
  state.products.push_back(product);
  state.products.back().group = state.groups;
  if (state.sums.count(product.sums) > 0) return;
  state.sums[product.sums].assign(product.sums, product.sums + count(product));
  std::fill_n(product.sums, count(product), float_of(kUnderWay));
}

bool take_product(int pending, WarpgroupProduct& product) {
  const Quiet quiet;
  auto& state = current().warpgroup;
  state.fenced = false;
  if (state.products.empty() || state.products.front().group >= state.groups - pending) return false;
  product = state.products.front();
  state.products.erase(state.products.begin());
  return true;
}

void carry_out(const WarpgroupProduct& product, const std::vector<std::array<Factors, 2>>& b_columns) {
  auto& sums = current().warpgroup.sums[product.sums];
  for (size_t j = 0; j < b_columns.size(); ++j) {
    if (!product.adds) std::fill_n(&sums[4 * j], 4, 0.0f);
    add_products(Product::of_warpgroup, product.a_rows, b_columns[j], &sums[4 * j]);
  }
}

void finish_products() {
  const Quiet quiet;
  auto& state = current().warpgroup;
  for (auto it = state.sums.begin(); it != state.sums.end();) {
    const auto& [registers, values] = *it;
    const bool under_way = std::any_of(state.products.begin(), state.products.end(),
                                       [at = registers](const auto& product) { return product.sums == at; });
    if (under_way) {
      ++it;
      continue;
    }
    for (size_t i = 0; i < values.size(); ++i) {
      require(bits_of(registers[i]) == kUnderWay, "registers of C were written while a product was under way");
    }
    std::copy(values.begin(), values.end(), registers);
    it = state.sums.erase(it);
  }
}

}  // namespace hopfield::cuda_on_host
