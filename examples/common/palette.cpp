#include "palette.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <map>

namespace hopfield::examples {
namespace {

constexpr size_t kMostColors = 256, kChannels = 3;

using Rgb = std::array<uint8_t, kChannels>;

struct CountedColor {
  Rgb color;
  int64_t count;
};

/// Colours that may become one.
struct Group {
  explicit Group(std::vector<CountedColor> members) : colors(std::move(members)) {
    int64_t count = 0;
    std::array<double, kChannels> sums{}, squares{};
    for (const auto& [color, times] : colors) {
      count += times;
      for (size_t i = 0; i < kChannels; ++i) {
        sums[i] += static_cast<double>(times) * color[i];
        squares[i] += static_cast<double>(times) * color[i] * color[i];
      }
    }
    double largest = -1;
    for (size_t i = 0; i < kChannels; ++i) {
      const auto deviation = squares[i] - sums[i] * sums[i] / static_cast<double>(count);
      deviation_sum += deviation;
      if (deviation > largest) {
        largest = deviation;
        channel = i;
        mean = sums[i] / static_cast<double>(count);
      }
    }
    if (colors.size() == 1) deviation_sum = -1;  // cannot be split, whatever rounding has left
  }

  /// Moves the members above the mean to a group of their own.
  Group split() {
    const auto is_below = [&](const CountedColor& member) { return member.color[channel] <= mean; };
    const auto middle = std::stable_partition(colors.begin(), colors.end(), is_below);
    Group above(std::vector(middle, colors.end()));
    *this = Group(std::vector(colors.begin(), middle));
    return above;
  }

  Rgb most_frequent() const {
    return std::max_element(colors.begin(), colors.end(),
                            [](const auto& a, const auto& b) { return a.count < b.count; })
        ->color;
  }

  std::vector<CountedColor> colors;
  double deviation_sum = 0, mean = 0;
  size_t channel = 0;  // the one that deviates most, and whose mean it is
};

std::vector<Group> make_groups(std::vector<CountedColor> colors) {
  std::vector<Group> groups{Group(std::move(colors))};
  while (groups.size() < kMostColors) {
    const auto widest = std::max_element(
        groups.begin(), groups.end(), [](const Group& a, const Group& b) { return a.deviation_sum < b.deviation_sum; });
    if (widest->colors.size() == 1) break;
    auto above = widest->split();
    groups.push_back(std::move(above));
  }
  return groups;
}

}  // namespace

PaletteImage reduce_colors(const Pixels& pixels) {
  TORCH_CHECK(pixels.channels == kChannels && !pixels.values.empty(),
              "hopfield::examples::reduce_colors: expected pixels of 3 channels, got ", pixels.channels);
  const auto color_at = [&](size_t pixel) {
    const auto* values = pixels.values.data() + pixel * kChannels;
    return Rgb{values[0], values[1], values[2]};
  };
  const auto size = pixels.values.size() / kChannels;
  std::map<Rgb, int64_t> counts;
  for (size_t pixel = 0; pixel < size; ++pixel) ++counts[color_at(pixel)];
  std::vector<CountedColor> colors;
  for (const auto& [color, count] : counts) colors.push_back({color, count});

  PaletteImage image{pixels.width, pixels.height, {}, {}};
  std::map<Rgb, uint8_t> numbers;
  for (const auto& group : make_groups(std::move(colors))) {
    for (const auto& member : group.colors) numbers[member.color] = static_cast<uint8_t>(image.colors.size());
    image.colors.push_back(group.most_frequent());
  }
  image.numbers.reserve(size);
  for (size_t pixel = 0; pixel < size; ++pixel) image.numbers.push_back(numbers[color_at(pixel)]);
  return image;
}

}  // namespace hopfield::examples
