#pragma once

#include <hopfield/memory/recall.h>

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

/// What all networks of two-valued neurons have in common: the order of updates, the noise, and when to stop.
namespace hopfield::memory::detail {

/// One update of every neuron. It is the same for all queries, so that what becomes of a query does not depend on the
/// others.
struct Sweep {
  std::vector<int64_t> order;      ///< neurons, in the order in which they are updated; empty: all at once
  std::vector<double> thresholds;  ///< [d]: a neuron takes the value 1 if its local field is above, -1 if it is below
};

/// The sweep number `step` of a recall. The thresholds are 0 at temperature 0. Above, they are drawn so that a local
/// field h is above its threshold with the probability 1 / (1 + exp(-2 h / temperature)).
Sweep draw_sweep(const RecallSettings& settings, int64_t neurons, int64_t step);

/// @throws c10::Error in a sentence that begins with `prefix`, if the settings are not what a network can serve.
void check_sweeps(const RecallSettings& settings, const std::string& prefix);

/// Makes a sweep for the queries whose indices are `active` [n], and changes their states in place. Returns how many
/// neurons of each have changed [n] int64.
using MakeSweep = std::function<at::Tensor(const Sweep& sweep, const at::Tensor& active)>;

/// Makes sweeps until each query has settled or the settings say that it is enough. `states` [Q, d] are those that
/// `make_sweep` changes. Fills state, steps, converged, residual and period.
Recall make_sweeps(const at::Tensor& states, const RecallSettings& settings, const MakeSweep& make_sweep);

}  // namespace hopfield::memory::detail
