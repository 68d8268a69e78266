#include "kernels/cpu/pattern_sums.h"

#include <algorithm>

namespace hopfield::kernels {

PatternSums::PatternSums(const Call& call, const Gradients& gradients, const PackedPatterns& patterns)
    : p_(call),
      g_(gradients),
      patterns_(patterns),
      padded_stored_(padded(p_.stored_width())),
      padded_width_(p_.has_values() ? padded(p_.width) : 0) {
  int64_t size = 0;
  for (size_t i = 0; i < patterns_.sets().size(); ++i) {
    const auto& set = patterns_.sets()[i];
    const auto tiles = (set.rows + kTileRows - 1) / kTileRows;
    const auto count = groups_of(set);
    first_group_.push_back(static_cast<int64_t>(groups_.size()));
    for (int64_t j = 0; j < count; ++j) {
      groups_.push_back({static_cast<int64_t>(i), tiles * j / count * kTileRows,
                         std::min(set.rows, tiles * (j + 1) / count * kTileRows), size});
      if (wanted() && !is_direct(set)) size += padded(set.keys * (padded_stored_ + padded_width_));
    }
  }
  first_group_.push_back(static_cast<int64_t>(groups_.size()));
  sums_.resize(size);
}

int64_t PatternSums::groups_of(const PatternSet& set) const {
  constexpr int64_t kEnoughGroups = 16, kMostKeys = 1 << 16;
  const auto sets = static_cast<int64_t>(patterns_.sets().size());
  const auto most = std::min((kEnoughGroups + sets - 1) / sets, kMostKeys / std::max<int64_t>(set.keys, 1));
  return std::clamp<int64_t>(set.rows / (kTilesTogether * kTileRows), 1, std::clamp<int64_t>(most, 1, 8));
}

bool PatternSums::is_direct(const PatternSet& set) const {
  return p_.type == ElementType::float32 && groups_of(set) == 1 && p_.stored_width() == padded_stored_ &&
         (!p_.has_values() || p_.width == padded_width_);
}

PatternGradients PatternSums::of(const TileGroup& group) const {
  const auto& set = patterns_.sets()[group.set];
  const auto place = [&](const Strided& target) {
    return reinterpret_cast<float*>(address(target, p_.type, set.batch, set.head, set.first));
  };
  if (is_direct(set)) {
    return {place(g_.stored), p_.has_values() ? place(g_.values) : nullptr, g_.stored.row, g_.values.row};
  }
  float* keys = sums_.data() + group.place;
  return {keys, p_.has_values() ? keys + set.keys * padded_stored_ : nullptr, padded_stored_, padded_width_};
}

void PatternSums::clear(const TileGroup& group, int64_t first, int64_t count) const {
  const auto to = of(group);
  for (auto i = first; i < first + count; ++i) {
    std::fill_n(to.keys + i * to.key_row, padded_stored_, 0.0f);
    if (p_.has_values()) std::fill_n(to.values + i * to.value_row, padded_width_, 0.0f);
  }
}

void PatternSums::write(const Parallel& parallel, const Finish& finish) const {
  struct Piece {
    int64_t set, first, count;
  };
  std::vector<Piece> pieces;
  const auto rows = patterns_.chunk_size() * kChunksInBlock;
  for (size_t i = 0; i < patterns_.sets().size(); ++i) {
    const auto& set = patterns_.sets()[i];
    if (is_direct(set) && !finish) continue;  // written already
    for (int64_t first = 0; first < set.keys; first += rows) {
      pieces.push_back({static_cast<int64_t>(i), first, std::min(rows, set.keys - first)});
    }
  }
  parallel(static_cast<int64_t>(pieces.size()), [&](int64_t i) {
    const auto& piece = pieces[i];
    const auto& set = patterns_.sets()[piece.set];
    const auto begin = first_group_[piece.set], end = first_group_[piece.set + 1];
    const auto write = [&](float* PatternGradients::*member, int64_t PatternGradients::*row_member,
                           int64_t padded_width, int64_t width, const Strided& target) {
      const auto first = of(groups_[begin]);
      const auto row = first.*row_member;
      float* sum = first.*member + piece.first * row;
      for (auto group = begin + 1; group < end; ++group) {
        const float* added = of(groups_[group]).*member + piece.first * padded_width;
        for (int64_t k = 0; k < piece.count * padded_width; ++k) sum[k] += added[k];
      }
      if (finish && member == &PatternGradients::keys) finish(piece.set, piece.first, piece.count, sum, row);
      if (is_direct(set)) return;
      tile_ops().store(sum, row, piece.count, width,
                       address(target, p_.type, set.batch, set.head, set.first + piece.first), p_.type, target.row);
    };
    write(&PatternGradients::keys, &PatternGradients::key_row, padded_stored_, p_.stored_width(), g_.stored);
    if (p_.has_values())
      write(&PatternGradients::values, &PatternGradients::value_row, padded_width_, p_.width, g_.values);
  });
}

}  // namespace hopfield::kernels
