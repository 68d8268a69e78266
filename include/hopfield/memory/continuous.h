#pragma once

#include <hopfield/memory/memory.h>
#include <hopfield/ops/option_macro.h>

#include <memory>

namespace hopfield {
class RetrieveOptions;
}

namespace hopfield::memory {

namespace detail {
struct MemoryFile;
}

/// How similar a state xi is to a pattern x, times beta: the score of the pattern.
enum class Similarity {
  dot,        ///< xi.x, as in the paper
  cosine,     ///< the same for patterns and queries of norm 1, to which they are scaled. Takes twice the memory.
  euclidean,  ///< -|xi - x|^2 / 2: what is closest, however large the patterns are
};

struct ContinuousSettings {
  /// Inverse temperature: how sharply states are drawn to the most similar patterns. Undefined: 1 / sqrt(d), the one of
  /// attention. States are averages of patterns where it is small.
  std::optional<double> beta;
  Similarity similarity = Similarity::dot;
  /// How scores become weights. With sparsemax and entmax, patterns that stand out come back exactly. softmax1 is not
  /// possible with the euclidean similarity, since its scores are known but for what is the same for all patterns.
  Separation separation = Separation::softmax();
};

class ContinuousOptions {
  using Derived = ContinuousOptions;
  using Settings = ContinuousSettings;

 public:
  HOPFIELD_OPTION(beta)
  HOPFIELD_OPTION(similarity)
  HOPFIELD_OPTION(separation)

  const ContinuousSettings& settings() const { return settings_; }

 private:
  ContinuousSettings settings_;
};

/// The modern Hopfield network with continuous states: an update is xi <- sum_i p_i x_i with the weights
/// p = softmax(beta s(xi, x_i) + log w_i), where s is the similarity and w_i the weight of a pattern, 1 unless set.
///
///     memory::ContinuousMemory memory(images, memory::ContinuousOptions().beta(64.0).similarity(
///                                                 memory::Similarity::euclidean));
///     auto whole = memory.retrieve(halves, known);   // known [Q, d] bool: which features of the cues are known
///
/// Updates never raise the energy
///
///     E(xi) = -1/beta log sum_i w_i exp(beta s(xi, x_i)) + 1/2 xi.xi + 1/beta log sum_i w_i + 1/2 max_i |x_i|^2,
///
/// in which the euclidean similarity lacks the last two squares: they are part of it. Other separations have their
/// weights and their conjugate in place of softmax and of the logarithm of the sum (core/separation.h). Retrieval is
/// hopfield::retrieve(), so a million patterns run at the rate of its kernels. `steps` of a Recall counts updates;
/// `output` is the read-out sum_i p_i v_i of the values v_i that were stored with the patterns, or of the patterns, one
/// association beyond `state`.
///
/// Source: Ramsauer et al., "Hopfield Networks is All You Need", ICLR 2021, equations (2) and (3); values: section 3;
/// similarities: Millidge et al., "Universal Hopfield Networks", ICML 2022; weights: Ramsauer et al. 2021, A.1.8.
class ContinuousMemory final : public Memory {
 public:
  explicit ContinuousMemory(const ContinuousOptions& options = {});
  /// Stores patterns [N, d] without copying them. Do not change them in place afterwards.
  explicit ContinuousMemory(const at::Tensor& patterns, const ContinuousOptions& options = {});

  using Memory::retrieve;
  using Memory::store;
  /// Stores patterns [N, d] with a value [N, d_v] each, which retrieve() reads out: a hetero-associative memory. Once
  /// some patterns have values, all must.
  void store(const at::Tensor& patterns, const at::Tensor& values);

  /// Retrieves from cues of which some features are known only: patterns are compared by these alone, and what the
  /// unknown features of a query hold, be it NaN, has no influence. With the cosine similarity, the patterns keep their
  /// norm over all features.
  /// @param known  like queries, bool; true: known
  Recall retrieve(const at::Tensor& queries, const at::Tensor& known, const RecallOptions& options = {}) const;

  /// Gives the patterns weights [N], finite and positive. A pattern of the integer weight w counts as w equal ones.
  void set_weights(const at::Tensor& weights);
  /// Multiplies the weights of the patterns stored so far by a factor in (0, 1]. Patterns that are stored later stand
  /// out against those that have aged.
  void age(double factor);

  /// The weights [N].
  at::Tensor weights() const;
  /// The values [N, d_v], or undefined.
  at::Tensor values() const { return values_.rows(); }
  /// The inverse temperature in use.
  double beta() const;
  Similarity similarity() const { return settings_.similarity; }
  const Separation& separation() const { return settings_.separation; }

  const char* kind() const override { return "ContinuousMemory"; }
  static std::unique_ptr<Memory> read(const detail::MemoryFile& file);

 protected:
  at::Tensor as_keys(const at::Tensor& rows) const override;
  at::Tensor keys() const override;
  void learn(int64_t before) override;
  void unlearn(const at::Tensor& kept, const at::Tensor& removed, const at::Tensor& forgotten) override;
  Recall recall(const at::Tensor& queries, const RecallSettings& settings) const override;
  at::Tensor energy_of(const at::Tensor& states) const override;
  BestMatches best_matches_of(const at::Tensor& states, int64_t k) const override;
  void write(io::SafetensorsFile& file) const override;

 private:
  Recall recall_known(const at::Tensor& cues, const at::Tensor& known, const RecallSettings& settings) const;
  at::Tensor key_bias() const;
  at::Tensor energy_from(const at::Tensor& logsumexp, const at::Tensor& states) const;
  double update_steps_eps(const RecallSettings& settings) const;
  RetrieveOptions retrieve_options() const;

  ContinuousSettings settings_;
  GrowingRows unit_patterns_;  // [N, d], with the cosine similarity only
  GrowingRows values_;         // [N, d_v]
  GrowingRows log_weights_;    // [N]; none: all weights are 1
};

}  // namespace hopfield::memory

#undef HOPFIELD_OPTION
