#pragma once

// retrieve and pool by their formulas: plain loops in float64, which the kernels of all devices are compared with. This
// is code without LibTorch.

#include <kernels/params.h>

#include <array>
#include <cstdint>
#include <limits>
#include <vector>

namespace hopfield::testing {

/// A call with its numbers in float64.
///
/// Of `call` the shape, the settings and the strides count; its pointers are not read, the numbers are in the arrays
/// here. Each array begins with the first element of its tensor and has the others where the strides of `call` say. An
/// array that is empty stands for a pointer that is null.
struct PlainCall {
  kernels::Call call;
  std::vector<double> state, stored, values, key_bias, mask, beta, eps;
  std::vector<double> weight, bias;  ///< of a pool [heads, depth, width], [heads, depth]
  std::vector<int64_t> offsets, steps_max;
  bool has_values = false;  ///< otherwise the stored patterns are read out

  bool is_pool() const { return !weight.empty(); }
  bool is_ragged() const { return !offsets.empty(); }
  int64_t row_width() const { return is_pool() ? call.width : call.depth; }  ///< of a stored pattern
};

/// The numbers of a tensor [extents] in its own order, from an array that has them by strides. A dimension that is
/// shared, with the stride 0, counts as one of the extent 1.
std::vector<double> in_order(const std::vector<double>& array, const kernels::Strided& strides,
                             std::array<int64_t, 4> extents);

/// One query's association with the patterns of its set.
struct PlainAssociation {
  std::vector<double> state;    ///< that asked
  std::vector<double> query;    ///< what the patterns were multiplied with: the state, or for a pool W^T xi
  std::vector<double> scores;   ///< biases included
  std::vector<double> weights;  ///< softmax of the scores
  std::vector<double> factors;  ///< of dropout
  std::vector<double> read;     ///< sum of the weighted patterns, or values
  double largest = -std::numeric_limits<double>::infinity();    ///< score
  double logsumexp = -std::numeric_limits<double>::infinity();  ///< -inf: there was nothing to attend to
  double mass = 0;                                              ///< sum of the weights that dropout left
};

/// Rows are [batch, heads, queries].
struct PlainResult {
  std::vector<double> output, state;                     ///< [rows, width], [rows, depth]
  std::vector<double> logsumexp, residual, mass;         ///< [rows]
  std::vector<double> scores;                            ///< [rows, keys], of ragged patterns [keys, heads, queries]
  std::vector<double> saved_states;                      ///< [T, rows, depth]; with the stop rule per_query alone
  std::vector<double> largest_scores, exponential_sums;  ///< likewise [T + 1, rows]; NaN where nothing was associated
  std::vector<int64_t> steps;                            ///< [rows]
};

/// Weights of the loss L = <output, weights> + <final state, weights> + <logsumexp, weights>. Empty: all are 0.
struct PlainLoss {
  std::vector<double> output, state, logsumexp;
};

struct PlainGradient {
  std::vector<double> query, beta;     ///< [rows, depth], [rows]
  std::vector<double> stored, values;  ///< laid out like the patterns, summed over all that share them
};

class PlainOracle {
 public:
  explicit PlainOracle(PlainCall call);

  /// @param rounds_states  the patterns are multiplied with states that are rounded to the call's type
  /// @param made  the updates of each row, or with the stop rule per_head of each head; empty: the rule finds them
  PlainResult forward(bool rounds_states = false, const std::vector<int64_t>& made = {}) const;

  /// Whether the rule finds the same updates with all thresholds larger or smaller by `margin`. Otherwise an error of
  /// that size decides.
  bool decides_clearly(double margin) const;

  /// The derivative of a retrieval's loss.
  /// @param steps  updates that each row made [rows]
  /// @param last_steps  the state before so many last updates counts as a constant
  PlainGradient backward(const PlainLoss& loss, const std::vector<int64_t>& steps,
                         int64_t last_steps = std::numeric_limits<int64_t>::max()) const;

  PlainAssociation associate(int64_t row, const std::vector<double>& state, bool reads_out) const;

  /// The Frobenius norm of the change of each head's association, the largest of the batch. Rows that are not finite
  /// do not count.
  std::vector<double> changes(const std::vector<PlainAssociation>& now,
                              const std::vector<PlainAssociation>& before) const;

 private:
  struct Row {
    int64_t batch, head, query;
  };
  Row place(int64_t row) const;
  std::vector<double> first_state(int64_t row) const;
  std::vector<double> next_state(int64_t row, const PlainAssociation& found) const;
  int64_t first_key(int64_t batch) const;
  int64_t keys(int64_t batch) const;
  double bias_of(const Row& place, int64_t key) const;
  int64_t pattern(const kernels::Strided& strides, const Row& place, int64_t key) const;
  void follow_queries(bool rounds_states, const std::vector<int64_t>& made, PlainResult& result) const;
  void follow_heads(const std::vector<int64_t>& made, PlainResult& result) const;
  void read_out(int64_t row, const PlainAssociation& found, PlainResult& result) const;
  std::vector<double> pass_back(int64_t row, const PlainAssociation& through, const std::vector<double>& incoming,
                                double of_logsumexp, bool of_values, PlainGradient& gradient) const;

  PlainCall c_;
};

}  // namespace hopfield::testing
