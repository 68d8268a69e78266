#pragma once

#include "options.h"

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

namespace hopfield::theory_report {

/// Patterns or queries.
struct Rows {
  at::Tensor values;               // [n, d] float64 if the file has float64, otherwise float32
  std::vector<std::string> names;  // of images; otherwise empty
  std::string source;              // for messages: "digits", or the paths
};

/// Reads the patterns that the options name. @throws UsageError if they are not as expected
Rows read_patterns(const Options& options);

/// Reads the queries, or takes patterns at even distances, at most 1,000 of them. Adds the noise.
/// @param patterns  what read_patterns() returned
/// @throws UsageError if they are not as expected, or do not fit the patterns
Rows read_queries(const Rows& patterns, const Options& options);

}  // namespace hopfield::theory_report
