#include "landscape.h"

#include "common/text.h"
#include <hopfield/data/csv.h>
#include <hopfield/memory/continuous.h>
#include <hopfield/memory/kernel.h>

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace hopfield::landscape {
namespace {

constexpr int64_t kMostPatterns = 1000;

std::unique_ptr<memory::Memory> make_memory(const at::Tensor& patterns, double beta, const Options& options) {
  if (options.memory == "kernel") {
    return std::make_unique<memory::KernelMemory>(patterns, memory::KernelOptions().beta(beta));
  }
  const auto similarity = options.similarity == "euclidean" ? memory::Similarity::euclidean : memory::Similarity::dot;
  return std::make_unique<memory::ContinuousMemory>(patterns,
                                                    memory::ContinuousOptions().beta(beta).similarity(similarity));
}

/// The weights of the patterns in the update of states [q, 2]: [q, n], with sums of 1.
at::Tensor weights_of(const at::Tensor& states, const at::Tensor& patterns, double beta, const Options& options) {
  const auto products = states.matmul(patterns.t());
  if (options.memory == "continuous" && options.similarity != "euclidean") return (beta * products).softmax(1);
  const auto squares = (states.unsqueeze(1) - patterns).pow(2).sum(2);
  if (options.memory == "continuous") return (-0.5 * beta * squares).softmax(1);
  const auto acts = squares.lt(2 / beta).to(at::kDouble);
  return acts / acts.sum(1, /*keepdim=*/true);
}

/// The fewest patterns whose weights [n] add up to 0.9.
int64_t count_patterns(const at::Tensor& weights) {
  const auto sums = std::get<0>(weights.sort(0, /*descending=*/true)).cumsum(0);
  return sums.lt(0.9 - 1e-9).sum().item<int64_t>() + 1;
}

/// Points of a grid: [rows * columns, 2], those of a row one after the other. @param margin  as a share of the frame
at::Tensor points(const Frame& frame, int64_t rows, int64_t columns, double margin) {
  const auto along = [margin](double first, double last, int64_t count) {
    const auto space = margin * (last - first);
    return count == 1 ? at::full({1}, 0.5 * (first + last), at::kDouble)
                      : at::linspace(first + space, last - space, count, at::kDouble);
  };
  const auto grid = at::meshgrid({along(frame.bottom, frame.top, rows), along(frame.left, frame.right, columns)}, "ij");
  return at::stack({grid[1].flatten(), grid[0].flatten()}, 1);
}

/// States from which updates start: a grid, with offsets that keep them from the ridges of symmetric landscapes.
at::Tensor starts_in(const Frame& frame, const Options& options) {
  auto generator = at::make_generator<at::CPUGeneratorImpl>(options.seed);
  const auto states = points(frame, options.starts, options.starts, 0.06);
  const auto size = at::tensor({frame.right - frame.left, frame.top - frame.bottom}, at::kDouble);
  const auto offsets = at::rand(states.sizes(), generator, at::TensorOptions(at::kDouble)) - 0.5;
  return states + offsets * size * (0.3 / static_cast<double>(options.starts));
}

/// The fixed points that rows [q, 2] are, to within `distance`, with how many rows are at each.
std::vector<FixedPoint> grouped(const at::Tensor& ends, double distance) {
  std::vector<FixedPoint> result;
  for (int64_t i = 0; i < ends.size(0); ++i) {
    const auto x = ends[i][0].item<double>(), y = ends[i][1].item<double>();
    const auto found = std::find_if(result.begin(), result.end(), [&](const FixedPoint& point) {
      return std::hypot(point.x - x, point.y - y) <= distance;
    });
    if (found != result.end()) {
      ++found->starts;
    } else {
      result.push_back({x, y});
      result.back().starts = 1;
    }
  }
  std::sort(result.begin(), result.end(), [](const auto& a, const auto& b) { return a.x < b.x; });
  return result;
}

}  // namespace

const char* name_of(FixedPointKind kind) {
  constexpr const char* kNames[] = {"single pattern", "metastable state", "global average"};
  return kNames[static_cast<int>(kind)];
}

int64_t Landscape::count(FixedPointKind kind) const {
  return std::count_if(fixed_points.begin(), fixed_points.end(), [&](const auto& point) { return point.kind == kind; });
}

at::Tensor read_patterns(const std::string& path) {
  if (path.empty()) {
    // On a circle, where the dot product finds the closest pattern: two pairs and two that are alone.
    const auto angles = at::tensor({20.0, 58.0, 140.0, 178.0, 245.0, 310.0}, at::kDouble) * (std::acos(-1.0) / 180);
    return at::stack({angles.cos(), angles.sin()}, 1);
  }
  const auto table = examples::reading("--patterns", [&] { return data::read_table_csv(path); });
  const auto rows = table.features.size(0), columns = table.features.size(1) + 1;
  if (columns != 2) {
    throw UsageError{fmt::format("--patterns: expected two numbers in each row, x and y, got {} in {}", columns,
                                 examples::quote(path))};
  }
  if (rows < 1 || rows > kMostPatterns) {
    throw UsageError{
        fmt::format("--patterns: expected 1 to {} patterns, got {} in {}", kMostPatterns, rows, examples::quote(path))};
  }
  return at::stack({table.features.select(1, 0).to(at::kDouble), table.labels}, 1);
}

Frame frame_around(const at::Tensor& patterns) {
  const auto least = patterns.amin(0), most = patterns.amax(0);
  const auto x = 0.5 * (least[0] + most[0]).item<double>(), y = 0.5 * (least[1] + most[1]).item<double>();
  const auto extent = (most - least).max().item<double>();
  const auto half = extent > 0 ? 0.7 * extent : 1.0;
  return {x - half, x + half, y - half, y + half};
}

std::vector<double> default_betas(const at::Tensor& patterns, const Options& options) {
  const auto spread = (patterns - patterns.mean(0)).pow(2).sum(1).mean().item<double>();
  std::vector<double> betas =
      options.memory == "kernel" ? std::vector<double>{0.5, 3, 12} : std::vector<double>{1, 6, 40};
  for (auto& beta : betas) {
    if (spread > 0) beta = std::stod(fmt::format("{:.2g}", beta / spread));  // a number that is easy to read
  }
  return betas;
}

Landscape explore(const at::Tensor& patterns, const Frame& frame, double beta, const Options& options) {
  Landscape result;
  result.beta = beta;
  const auto memory = make_memory(patterns, beta, options);
  result.energy = memory->energy(points(frame, options.resolution, options.resolution, 0))
                      .view({options.resolution, options.resolution});

  auto states = starts_in(frame, options);
  const auto count = states.size(0);
  std::vector<std::vector<at::Tensor>> paths(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i) paths[static_cast<size_t>(i)].push_back(states[i]);
  auto settled = at::zeros({count}, at::kBool);
  for (int64_t step = 0; step < kMostSteps && !settled.all().item<bool>(); ++step) {
    const auto recall = memory->retrieve(states, memory::RecallOptions().update_steps_max(1).with_match(false));
    // Where no pattern acts, the residual is not a number.
    const auto moved = recall.residual > 1e-9 * (frame.right - frame.left);
    for (int64_t i = 0; i < count; ++i) {
      if (moved[i].item<bool>()) paths[static_cast<size_t>(i)].push_back(recall.state[i]);
    }
    if (step == 0) result.resting = recall.residual.isnan().sum().item<int64_t>();
    states = recall.state;
    settled = moved.bitwise_not();
  }
  if (!at::isfinite(states).all().item<bool>()) {
    throw UsageError{
        fmt::format("--beta: expected numbers that suit the patterns, got {:.4g}, with which states are not "
                    "finite; choose a smaller one",
                    beta)};
  }
  result.unsettled = count - settled.sum().item<int64_t>();
  std::vector<at::Tensor> ends;
  for (int64_t i = 0; i < count; ++i) {
    const auto& path = paths[static_cast<size_t>(i)];
    if (path.size() < 2) continue;
    result.paths.push_back(at::stack(path));
    if (settled[i].item<bool>()) ends.push_back(path.back());
  }
  if (ends.empty()) return result;
  result.fixed_points = grouped(at::stack(ends), 1e-4 * (frame.right - frame.left));
  for (auto& point : result.fixed_points) {
    const auto state = at::tensor({point.x, point.y}, at::kDouble).unsqueeze(0);
    point.energy = memory->energy(state).item<double>();
    point.patterns = count_patterns(weights_of(state, patterns, beta, options)[0]);
    point.kind = point.patterns == 1                      ? FixedPointKind::single
                 : 2 * point.patterns >= patterns.size(0) ? FixedPointKind::average
                                                          : FixedPointKind::metastable;
  }
  return result;
}

}  // namespace hopfield::landscape
