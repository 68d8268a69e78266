#pragma once

#include <hopfield/core/masks.h>
#include <hopfield/ops/iteration.h>
#include <hopfield/ops/option_macro.h>

#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>

#include <optional>
#include <string>
#include <type_traits>

namespace hopfield {

/// Patterns in association space, and what may be attended to. N batch, H heads, L queries, S stored patterns.
///
/// Patterns have 4 dimensions as written, or 3 (no H) or 2 (neither N nor H); results have the same form. A dimension
/// of size 1 in stored or projection is shared by the batch or by the heads and never expanded in memory.
///
/// Ragged patterns are the bags of a batch, one after the other, without padding: `offsets` for stored patterns and
/// projection, `state_offsets` for queries. Offsets are [N + 1] integers, of which bag n owns the rows offsets[n] ..
/// offsets[n + 1]. Ragged patterns take no mask but a key bias.
struct RetrieveInput {
  at::Tensor state = {};       ///< queries [N, H, L, d]; ragged [total_L, H, d]
  at::Tensor stored = {};      ///< keys [N or 1, H or 1, S, d]; ragged [total, H or 1, d]
  at::Tensor projection = {};  ///< values, like stored but of any width d_v; undefined: stored
  Masks masks = {};
  at::Tensor offsets = {};        ///< [N + 1]; undefined: dense stored patterns
  at::Tensor state_offsets = {};  ///< [N + 1], together with `offsets` only; undefined: dense queries
};

struct RetrieveSettings : IterationSettings {
  /// Inverse temperature: undefined = 1 / sqrt(d), otherwise [] or [H]. Receives a gradient if it asks for one.
  at::Tensor beta;
  /// Probability of dropping an entry of the final association.
  double dropout = 0.0;
  /// CPU generator that draws the dropout mask's seed; undefined: LibTorch's default one.
  at::Generator generator;
  /// Also return the energy of the final states.
  bool with_energy = false;
  /// Also return the scores of the final association.
  bool with_scores = false;
};

/// The options of retrieve() as chained setters: RetrieveOptions().beta(8.0).until_converged().
class RetrieveOptions : public IterationOptions<RetrieveOptions, RetrieveSettings> {
  using Derived = RetrieveOptions;
  using Settings = RetrieveSettings;

 public:
  RetrieveOptions() = default;
  /// A number alone is refused, since it could be meant for beta or for a number of updates.
  template <typename Number, typename = std::enable_if_t<std::is_arithmetic_v<Number>>>
  explicit RetrieveOptions(Number) {
    static_assert(
        !std::is_arithmetic_v<Number>,
        "RetrieveOptions takes no number: write RetrieveOptions().beta(8.0) or RetrieveOptions().fixed_steps(3)");
  }
  /// Copies the settings that layers and retrieve() share.
  explicit RetrieveOptions(const IterationSettings& iteration) {
    static_cast<IterationSettings&>(settings_) = iteration;
  }

  RetrieveOptions& beta(at::Tensor value) {
    settings_.beta = std::move(value);
    return *this;
  }
  RetrieveOptions& beta(const PerHead<double>& value);
  const at::Tensor& beta() const { return settings_.beta; }
  HOPFIELD_OPTION(dropout)
  HOPFIELD_OPTION(generator)
  RetrieveOptions& with_energy(bool wanted = true) {
    settings_.with_energy = wanted;
    return *this;
  }
  RetrieveOptions& with_scores(bool wanted = true) {
    settings_.with_scores = wanted;
    return *this;
  }
};

/// Every tensor has memory of its own: changing it in place changes no input and no gradient. The results of ragged
/// queries have [total_L, H] in place of [N, H, L], and no scores.
struct RetrieveResult {
  at::Tensor output;     ///< Z [N, H, L, d_v], one association beyond `state`
  at::Tensor state;      ///< xi_T [N, H, L, d]
  at::Tensor logsumexp;  ///< of the final scores [N, H, L], or Omega* of another separation than softmax; float32 for
                         ///< half precision patterns
  at::Tensor steps;      ///< updates made [N, H, L] int64
  at::Tensor residual;   ///< what the stop rule compared last [N, H, L]; NaN if nothing was updated
  at::Tensor converged;  ///< residual <= update_steps_eps [N, H, L] bool
  at::Tensor energy;     ///< [N, H, L] with_energy()
  at::Tensor scores;     ///< beta xi_T K^T, masked [N, H, L, S], ragged [total, H, L] with_scores()
};

/// Makes T updates xi <- softmax(beta xi K^T) K, and then the read-out Z = softmax(beta xi K^T) V. The option
/// separation puts sparsemax, entmax or softmax1 in the place of softmax, in updates and read-out alike: see
/// <hopfield/core/separation.h>.
///
///     auto r = hopfield::retrieve(noisy, patterns, RetrieveOptions().beta(8.0).until_converged());
///
/// A query that may attend to nothing (all masked, empty bag) retrieves zeros with logsumexp -inf, energy +inf and no
/// gradient, with every separation. Keys excluded for every query may hold anything, NaN included. Computation is in
/// float32 for half precision patterns, otherwise in the patterns' own dtype.
///
/// The backward pass reads patterns, masks, biases, offsets and beta again. If one of them has been changed in place by
/// then, LibTorch refuses the backward pass ("modified by an inplace operation"). For training, the fused kernels keep
/// the states of all updates where these are few or all certain to be made. Where a threshold may end more than 16
/// updates, and until converged, the backward pass makes the updates again; so does a call that torch.compile has
/// recorded. LibTorch operations keep the graph of the updates that were made.
///
/// CUDA graphs may hold calls with dense patterns and a number of updates. While a graph is captured, until_converged()
/// is refused, since it reads values, and so is dropout, whose seed is drawn on the host.
///
/// Sources: Ramsauer et al. 2021, equations (3), (5) and (10); for other separations Santos et al. 2025,
/// arXiv:2411.08590.
///
/// @throws c10::Error naming the argument, what was expected and what came.
RetrieveResult retrieve(const RetrieveInput& input, const RetrieveOptions& options = {});
RetrieveResult retrieve(const at::Tensor& state, const at::Tensor& stored, const RetrieveOptions& options = {});

/// Why the fused kernels would not serve this call; nothing if they would.
std::optional<std::string> why_not_fused(const RetrieveInput& input, const RetrieveOptions& options = {});

/// Makes the linker keep this library in a program that only uses its ops through the dispatcher
/// (`torch.ops.hopfield.*`). Programs that call any other function of the library need not call this one.
void register_ops();

}  // namespace hopfield

#undef HOPFIELD_OPTION
