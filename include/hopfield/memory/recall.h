#pragma once

#include <hopfield/ops/iteration.h>
#include <hopfield/ops/option_macro.h>

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>

namespace hopfield::memory {

/// Which neurons of a network of two-valued neurons are updated together.
enum class Update {
  asynchronous,  ///< one after the other: the energy never rises
  synchronous,   ///< all at once: the network can end in a cycle of two states
};

/// In which order asynchronous updates visit the neurons of a sweep.
enum class Order {
  random,  ///< a permutation for each sweep, drawn from the seed: the same one for all queries of all batches
  fixed,   ///< 0, 1, .., d - 1
};

struct RecallSettings {
  /// Number of updates, or of sweeps over all neurons; kUntilConverged: until nothing changes any more.
  int64_t update_steps_max = kUntilConverged;
  /// Most updates or sweeps that "until converged" makes.
  int64_t update_steps_cap = 256;
  /// Memories of continuous states: a state has converged once an update moves it by no more than this. The default is
  /// 1e-12 times the norm of the largest pattern in float64, and 1e-6 times that in float32.
  std::optional<double> update_steps_eps;

  /// Retrieval from cues of which some features are known: whether these keep the values of the cue. One update
  /// completes the cues then. Otherwise they are updated like the others.
  bool keep_known = true;

  // Networks of two-valued neurons only.
  Update update = Update::asynchronous;
  Order order = Order::random;
  uint64_t seed = 0;
  /// Above 0, a neuron takes the value 1 with the probability 1 / (1 + exp(-2 h / temperature)) of Glauber's dynamics,
  /// where h is its local field. It never converges then: set update_steps_max.
  double temperature = 0.0;

  /// Whether the result is to say which stored pattern came back, which takes one more pass over the patterns.
  bool with_match = true;
  /// A pattern came back if both the cue and the retrieved state have at least this similarity to it: the cosine of
  /// their angle after the mean of all stored features has been taken from both. The similarity of the cue keeps noise
  /// from matching the pattern that it happened to be drawn to.
  double match_similarity = 0.55;
  /// The state's similarity to the pattern must also exceed that to the second pattern by this: a state between several
  /// patterns is none of them. A state that equals a pattern to rounding matches it in any case.
  double match_gap = 0.01;
};

/// The settings of a recall as chained setters: RecallOptions().update(Update::synchronous).update_steps_max(10).
/// Memories ignore the settings that are not about them.
class RecallOptions {
  using Derived = RecallOptions;
  using Settings = RecallSettings;

 public:
  HOPFIELD_OPTION(update_steps_max)
  HOPFIELD_OPTION(update_steps_cap)
  HOPFIELD_OPTION(update_steps_eps)
  HOPFIELD_OPTION(keep_known)
  HOPFIELD_OPTION(update)
  HOPFIELD_OPTION(order)
  HOPFIELD_OPTION(seed)
  HOPFIELD_OPTION(temperature)
  HOPFIELD_OPTION(with_match)
  HOPFIELD_OPTION(match_similarity)
  HOPFIELD_OPTION(match_gap)

  const RecallSettings& settings() const { return settings_; }

 private:
  RecallSettings settings_;
};

/// What a memory answers. Q queries; a single query [d] has results without the dimension of the queries.
struct Recall {
  at::Tensor state;   ///< final states [Q, d]
  at::Tensor output;  ///< what is read out: the state, or the values [Q, d_v] that were stored with the patterns
  at::Tensor energy;  ///< energy of `state` [Q]
  at::Tensor steps;   ///< updates or sweeps made [Q] int64
  at::Tensor
      converged;        ///< whether `state` is a fixed point, within the threshold where states are continuous [Q] bool
  at::Tensor residual;  ///< by how much the last update moved the state [Q]; two-valued neurons: how many changed
  at::Tensor period;    ///< 1: fixed point, 2: cycle of two states, of which `state` is one, 0: not settled [Q] int64
  at::Tensor matched;   ///< whether a stored pattern came back [Q] bool
  at::Tensor match;     ///< the index of that pattern, or -1 [Q] int64
};

}  // namespace hopfield::memory

#undef HOPFIELD_OPTION
