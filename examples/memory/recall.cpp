#include "recall.h"

#include <hopfield/memory/continuous.h>

#include <ATen/ATen.h>

#include <algorithm>

namespace hopfield::image_memory {
namespace {

constexpr double kLargestError = 0.1;

/// Patterns as the states of a memory of the same format; those of its neurons where they have two values.
at::Tensor states_of(const ImageMemory& stored, const at::Tensor& images) {
  const auto states = stored.format.patterns_of(images);
  if (!stored.format.is_black_and_white) return states;
  return stored.options.kind == "graded" ? states.clamp(-1, 1) : at::where(states > 0, 1.0f, -1.0f);
}

/// The stored patterns that are closest to rows [q, d] in those features that are known, or in all: [q].
at::Tensor nearest(const at::Tensor& patterns, const at::Tensor& rows, const at::Tensor& known) {
  constexpr int64_t kTile = 256;
  std::vector<at::Tensor> results;
  const auto squares = patterns.pow(2);
  for (int64_t first = 0; first < rows.size(0); first += kTile) {
    const auto length = std::min(kTile, rows.size(0) - first);
    const auto tile = rows.narrow(0, first, length);
    const auto mask = known.defined() ? known.narrow(0, first, length).to(rows.scalar_type()) : at::ones_like(tile);
    const auto scores = (tile * mask).matmul(patterns.t()) - 0.5 * mask.matmul(squares.t());  // [tile, n]
    results.push_back(scores.argmax(1));
  }
  return at::cat(results);
}

/// The patterns with these numbers, and any pattern for -1.
at::Tensor patterns_at(const at::Tensor& patterns, const at::Tensor& numbers) {
  return patterns.index_select(0, numbers.clamp_min(0));
}

/// Whether states [q, d] show the stored patterns with these numbers [q]; false for -1. [q]
at::Tensor shows(const at::Tensor& states, const at::Tensor& patterns, const at::Tensor& numbers, double range) {
  const auto error = (states - patterns_at(patterns, numbers)).abs().amax(1);
  return (error <= kLargestError * range).bitwise_and(numbers >= 0);
}

}  // namespace

const char* name_of(Outcome outcome) {
  constexpr const char* kNames[] = {"right", "wrong", "no match", "unknown"};
  return kNames[static_cast<int>(outcome)];
}

int64_t RecallResult::count(Outcome outcome) const { return std::count(outcomes.begin(), outcomes.end(), outcome); }

RecallResult recall_images(const ImageMemory& stored, const at::Tensor& images, const at::Tensor& truth,
                           const std::vector<Corruption>& corruptions, uint64_t seed, int64_t update_steps) {
  const bool is_two_valued = stored.format.is_black_and_white && stored.options.kind != "graded";
  RecallResult result;
  result.cues = corrupted(images, corruptions, is_two_valued ? Filling::random : Filling::grey, seed);
  const auto patterns = stored.memory->patterns();
  const auto queries = states_of(stored, result.cues.images).to(patterns.device());
  const auto known =
      result.cues.known.defined() ? result.cues.known.reshape(queries.sizes()).to(patterns.device()) : at::Tensor();

  const auto settings = memory::RecallOptions().update_steps_max(update_steps).seed(seed);
  const auto* continuous = dynamic_cast<const memory::ContinuousMemory*>(stored.memory.get());
  const auto recall = continuous != nullptr && known.defined() ? continuous->retrieve(queries, known, settings)
                                                               : stored.memory->retrieve(queries, settings);

  // The read-out, one association beyond the state, also completes and cleans the known pixels. For other memories it
  // is the state.
  result.retrieved = stored.format.images_of(recall.output);
  const auto range = stored.format.is_black_and_white ? 2.0 : 1.0;
  const auto goal = truth.to(patterns.device());
  const auto is_right = shows(recall.output, patterns, goal, range);
  const auto match = at::where(shows(recall.output, patterns, recall.match, range), recall.match, -1);
  // Several stored images may be the same, above all in black and white.
  const auto count_right = [&](const at::Tensor& numbers) {
    return shows(patterns_at(patterns, numbers), patterns, goal, 0).sum().item<int64_t>();
  };
  result.with_truth = (goal >= 0).sum().item<int64_t>();
  result.closest_right = count_right(nearest(patterns, recall.output, {}));
  result.neighbour_right = count_right(nearest(patterns, queries, known));
  result.truth = truth;
  result.match = at::where(is_right, goal, match).cpu();
  result.energy = recall.energy.cpu().to(at::kDouble);
  result.steps = recall.steps.cpu();
  result.converged = recall.converged.cpu();
  const auto right = is_right.cpu();
  for (int64_t i = 0; i < truth.size(0); ++i) {
    const bool has_match = result.match[i].item<int64_t>() >= 0, has_truth = truth[i].item<int64_t>() >= 0;
    result.outcomes.push_back(right[i].item<bool>() ? Outcome::right
                              : !has_match          ? Outcome::no_match
                              : has_truth           ? Outcome::wrong
                                                    : Outcome::unknown);
  }
  return result;
}

at::Tensor visible_cue(const Cues& cues, int64_t i) {
  constexpr float kHidden[] = {0.72f, 0.82f, 0.92f};
  const auto image = cues.images[i].expand({-1, -1, 3});
  if (!cues.known.defined()) return image;
  const auto known = cues.known[i].narrow(2, 0, 1);
  return at::where(known, image, at::tensor(at::ArrayRef<float>(kHidden)));
}

}  // namespace hopfield::image_memory
