#pragma once

#include "options.h"
#include <hopfield/memory/memory.h>

#include <ATen/core/Tensor.h>

#include <memory>
#include <string>
#include <vector>

namespace hopfield::landscape {

/// What a fixed point is made of, by k: the fewest patterns whose weights add up to 0.9.
enum class FixedPointKind {
  single,      ///< k = 1: one pattern
  metastable,  ///< between the two others: several patterns
  average,     ///< k >= N / 2: all patterns
};
const char* name_of(FixedPointKind kind);

struct FixedPoint {
  double x = 0, y = 0, energy = 0;
  FixedPointKind kind = FixedPointKind::single;
  int64_t patterns = 1;  ///< k
  int64_t starts = 0;    ///< from how many starts the updates led here
};

/// The energy of a memory with one inverse temperature, and where its updates lead.
struct Landscape {
  double beta = 0;
  at::Tensor energy;                     ///< [rows, columns] at the points of the frame; infinite where it is
  std::vector<at::Tensor> paths;         ///< for each start that moves: its states [steps + 1, 2]
  std::vector<FixedPoint> fixed_points;  ///< by x
  int64_t resting = 0;                   ///< starts on which no pattern acts (kernel memory)
  int64_t unsettled = 0;                 ///< starts that had not converged after kMostSteps updates

  int64_t count(FixedPointKind kind) const;
};

constexpr int64_t kMostSteps = 2000;

/// The part of the plane that is drawn.
struct Frame {
  double left = 0, right = 0, bottom = 0, top = 0;
};

/// The patterns [n, 2] float64 of a file, or six that are built in. @throws UsageError if the file is not as expected
at::Tensor read_patterns(const std::string& path);
/// The patterns with some space around them.
Frame frame_around(const at::Tensor& patterns);

/// Three inverse temperatures for the patterns: one for a global average, one for metastable states, one for single
/// patterns. They are inversely proportional to the mean squared distance of the patterns from their mean.
std::vector<double> default_betas(const at::Tensor& patterns, const Options& options);

/// Computes a landscape. @throws UsageError if beta is too large for the patterns
Landscape explore(const at::Tensor& patterns, const Frame& frame, double beta, const Options& options);

}  // namespace hopfield::landscape
