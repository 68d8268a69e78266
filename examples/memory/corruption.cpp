#include "corruption.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>

#include <fmt/format.h>

#include <cmath>

namespace hopfield::image_memory {
namespace {

/// Whether each pixel, with all of its channels, is chosen: [n, height, width, 1].
at::Tensor some_pixels(const at::Tensor& images, double share, at::Generator& generator) {
  return at::rand({images.size(0), images.size(1), images.size(2), 1}, generator) < share;
}

}  // namespace

const std::vector<CorruptionKind>& corruption_kinds() {
  static const std::vector<CorruptionKind> kinds{
      {"half", "hides the lowest rows, by default half of them", 0.5},
      {"noise", "adds normal noise of this standard deviation, by default 0.2", 0.2},
      {"salt-and-pepper", "makes this share of pixels black or white, by default 0.2", 0.2},
      {"flip", "inverts this share of pixels, by default 0.1", 0.1}};
  return kinds;
}

double default_amount(const std::string& kind) {
  for (const auto& known : corruption_kinds()) {
    if (kind == known.name) return known.amount;
  }
  TORCH_CHECK(false, "hopfield::image_memory: expected a kind of corruption, got '", kind, "'");
}

std::string text_of(const std::vector<Corruption>& corruptions) {
  std::string text;
  for (const auto& corruption : corruptions) {
    text += fmt::format("{}{} {}", text.empty() ? "" : ", ", corruption.kind, corruption.amount);
  }
  return text.empty() ? kNoCorruption : text;
}

Cues corrupted(const at::Tensor& images, const std::vector<Corruption>& corruptions, Filling filling, uint64_t seed) {
  auto generator = at::make_generator<at::CPUGeneratorImpl>(seed);
  Cues cues{images, {}};
  const auto height = images.size(1);
  int64_t hidden_rows = 0;
  for (const auto& [kind, amount] : corruptions) {
    if (kind == "half") {
      hidden_rows = std::max<int64_t>(hidden_rows, std::lround(amount * static_cast<double>(height)));
    } else if (kind == "noise") {
      cues.images = cues.images + amount * at::randn(images.sizes(), generator);
    } else if (kind == "salt-and-pepper") {
      const auto chosen = some_pixels(images, amount, generator), is_white = some_pixels(images, 0.5, generator);
      cues.images = at::where(chosen, is_white.to(at::kFloat), cues.images);
    } else {
      cues.images = at::where(some_pixels(images, amount, generator), 1 - cues.images, cues.images);
    }
  }
  if (hidden_rows > 0) {
    // Last, so that what is hidden has nothing of the other corruptions.
    cues.known = at::ones(images.sizes(), at::kBool);
    cues.known.narrow(1, height - hidden_rows, hidden_rows).fill_(false);
    const auto values =
        filling == Filling::grey ? at::full_like(images, 0.5) : some_pixels(images, 0.5, generator).to(at::kFloat);
    cues.images = at::where(cues.known, cues.images, values);
  }
  return cues;
}

}  // namespace hopfield::image_memory
