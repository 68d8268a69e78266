#include "memory/best_rows.h"
#include <hopfield/memory/memory.h>

#include <ATen/ATen.h>

#include <algorithm>
#include <limits>

namespace hopfield::memory {
namespace {

// States and patterns whose similarity differs from 1 by no more than this are equal to rounding.
constexpr double kRounding = 1e-6;

/// The cosine of the angle between a and b [Q, d] after `centre` has been taken from their features, over the features
/// that `known` selects, in float64. Not a number where one of them is zero. [Q]
at::Tensor similarity_of(const at::Tensor& a, const at::Tensor& b, double centre, const at::Tensor& known = {}) {
  auto x = a.to(at::kDouble) - centre, y = b.to(at::kDouble) - centre;
  if (known.defined()) x.mul_(known), y.mul_(known);
  return (x * y).sum(-1) / (x.pow(2).sum(-1) * y.pow(2).sum(-1)).sqrt();
}

/// Sums of the features and of their squares [N, 2] float64.
at::Tensor moments_of(const at::Tensor& keys) {
  return at::stack({keys.sum(-1, /*keepdim=*/false, at::kDouble),
                    at::linalg_vector_norm(keys, 2, -1, /*keepdim=*/false, at::kDouble).pow(2)},
                   -1);
}

}  // namespace

std::string Memory::prefix() const { return std::string("hopfield::memory::") + kind() + ": "; }

at::Tensor Memory::patterns() const {
  TORCH_CHECK(size() > 0, prefix(), "expected a memory with patterns, got an empty one; call store() first");
  return patterns_.rows();
}

at::Tensor Memory::checked(const at::Tensor& queries, const char* name) const {
  const auto stored = patterns();
  TORCH_CHECK(queries.defined(), prefix(), "expected ", name, " [Q, ", stored.size(1), "], got an undefined tensor");
  TORCH_CHECK((queries.dim() == 1 || queries.dim() == 2) && queries.size(-1) == stored.size(1), prefix(), "expected ",
              name, " [Q, ", stored.size(1), "] or [", stored.size(1), "], as wide as the stored patterns, got ",
              queries.sizes());
  TORCH_CHECK(queries.scalar_type() == stored.scalar_type() && queries.device() == stored.device(), prefix(),
              "expected ", name, " to be ", stored.scalar_type(), " on ", stored.device(),
              " like the stored patterns, got ", queries.scalar_type(), " on ", queries.device(),
              "; convert them with to()");
  TORCH_CHECK(at::isfinite(queries).all().item<bool>(), prefix(), "expected finite ", name,
              ", got some that are infinite or not a number");
  TORCH_CHECK(!has_binary_states() || queries.abs().eq(1).all().item<bool>(), prefix(), "expected ", name,
              " of -1 and 1, got other values; take sign() of them first");
  return queries.dim() == 1 ? queries.unsqueeze(0) : queries;
}

at::Tensor Memory::checked_patterns(const at::Tensor& patterns) const {
  TORCH_CHECK(patterns.defined(), prefix(), "expected patterns [N, d], got an undefined tensor");
  TORCH_CHECK((patterns.dim() == 1 || patterns.dim() == 2) && patterns.numel() > 0, prefix(),
              "expected patterns [N, d] or [d] with at least one pattern and one feature, got ", patterns.sizes());
  if (size() > 0) return checked(patterns.detach(), "patterns");
  TORCH_CHECK(patterns.scalar_type() == at::kFloat || patterns.scalar_type() == at::kDouble, prefix(),
              "expected patterns of type Float or Double, got ", patterns.scalar_type());
  TORCH_CHECK(at::isfinite(patterns).all().item<bool>(), prefix(),
              "expected finite patterns, got some that are infinite or not a number");
  TORCH_CHECK(!has_binary_states() || patterns.abs().eq(1).all().item<bool>(), prefix(),
              "expected patterns of -1 and 1, got other values; take sign() of them first");
  const auto detached = patterns.detach();
  return detached.dim() == 1 ? detached.unsqueeze(0) : detached;
}

void Memory::store(const at::Tensor& patterns) {
  at::NoGradGuard no_grad;
  const auto added = checked_patterns(patterns);
  const auto before = size();
  auto old_patterns = patterns_, old_moments = moments_;
  patterns_.append(added);
  moments_.append(moments_of(as_keys(added)));
  try {
    learn(before);
  } catch (...) {
    patterns_ = std::move(old_patterns);
    moments_ = std::move(old_moments);
    throw;
  }
}

void Memory::restore(const at::Tensor& patterns) {
  at::NoGradGuard no_grad;
  const auto adopted = checked_patterns(patterns).contiguous();
  moments_ = GrowingRows(moments_of(as_keys(adopted)));
  patterns_ = GrowingRows(adopted);
}

void Memory::adopt(const at::Tensor& patterns) {
  at::NoGradGuard no_grad;
  restore(patterns);
  learn(0);
}

void Memory::forget(const at::Tensor& indices) {
  at::NoGradGuard no_grad;
  TORCH_CHECK(
      indices.defined() && indices.dim() == 1 && at::isIntegralType(indices.scalar_type(), false), prefix(),
      "expected integer indices [n], got ",
      indices.defined() ? c10::str(indices.sizes(), " of type ", indices.scalar_type()) : "an undefined tensor");
  if (indices.numel() == 0) return;
  const auto removed = std::get<0>(indices.to(patterns().device(), at::kLong).sort());
  TORCH_CHECK(removed[0].item<int64_t>() >= 0 && removed[-1].item<int64_t>() < size(), prefix(),
              "expected indices from 0 to ", size() - 1, ", got ",
              removed[0].item<int64_t>() < 0 ? removed[0].item<int64_t>() : removed[-1].item<int64_t>());
  TORCH_CHECK(removed.diff().gt(0).all().item<bool>(), prefix(), "expected indices without repetitions, got one twice");
  auto stays = at::ones({size()}, removed.options().dtype(at::kBool));
  stays.index_fill_(0, removed, false);
  const auto kept = stays.nonzero().squeeze(-1);
  const auto forgotten = patterns().index_select(0, removed);
  auto old_patterns = std::move(patterns_), old_moments = std::move(moments_);
  try {
    patterns_ = GrowingRows(old_patterns.rows().index_select(0, kept));
    moments_ = GrowingRows(old_moments.rows().index_select(0, kept));
    unlearn(kept, removed, forgotten);
  } catch (...) {
    patterns_ = std::move(old_patterns);
    moments_ = std::move(old_moments);
    throw;
  }
}

Recall Memory::retrieve(const at::Tensor& queries, const RecallOptions& options) const {
  at::NoGradGuard no_grad;
  TORCH_CHECK(queries.defined(), prefix(), "expected queries [Q, d], got an undefined tensor");
  const auto cues = as_keys(checked(queries.detach(), "queries"));
  return completed(recall(cues, options.settings()), cues, {}, options.settings(), queries.dim() == 1);
}

Recall Memory::completed(Recall recall, const at::Tensor& queries, const at::Tensor& known,
                         const RecallSettings& settings, bool single) const {
  if (!recall.output.defined()) recall.output = recall.state.clone();
  if (!recall.energy.defined()) recall.energy = energy_of(recall.state);
  if (settings.with_match) {
    const auto may_match = recall.matched;
    recall.match = match_of(recall, queries, known, settings);
    if (may_match.defined()) recall.match.masked_fill_(may_match.bitwise_not(), -1);
    recall.matched = recall.match >= 0;
  }
  if (single) {
    for (auto* tensor : {&recall.state, &recall.output, &recall.energy, &recall.steps, &recall.converged,
                         &recall.residual, &recall.period, &recall.matched, &recall.match}) {
      if (tensor->defined()) *tensor = tensor->squeeze(0);
    }
  }
  return recall;
}

at::Tensor Memory::match_of(const Recall& recall, const at::Tensor& queries, const at::Tensor& known,
                            const RecallSettings& settings) const {
  const auto rows = keys();
  const auto width = static_cast<double>(rows.size(1));
  const auto moments = moments_.rows();
  const auto sums = moments.select(1, 0), squares = moments.select(1, 1);
  auto centre = sums.sum().item<double>() / (width * static_cast<double>(size()));
  auto squared_norms = squares - 2 * centre * sums + width * centre * centre;  // of p_i - centre
  // Of patterns whose features are all the same, as those of a single vector of ones, the centre would leave nothing.
  if ((squared_norms <= kRounding * squares).any().item<bool>()) centre = 0.0, squared_norms = squares;
  const detail::Similarity similarity{
      centre, at::where(squared_norms > 0, squared_norms.rsqrt(), 0.0).to(rows.scalar_type()), {}};
  const auto best = detail::best_rows(recall.state, rows, 2, similarity).indices;

  const auto first = best.select(1, 0), second = best.select(1, 1);
  const auto pattern = rows.index_select(0, first);
  const auto of_state = similarity_of(recall.state, pattern, centre);
  const auto of_second = similarity_of(recall.state, rows.index_select(0, second.clamp_min(0)), centre);
  const auto stands_out = (second < 0).bitwise_or(of_state - of_second >= settings.match_gap);
  const auto of_cue = similarity_of(queries, pattern, centre, known);
  const auto matched = (of_state >= settings.match_similarity)
                           .bitwise_and(of_cue >= settings.match_similarity)
                           .bitwise_and(stands_out.bitwise_or(of_state >= 1.0 - kRounding));
  return at::where(matched, first, -1);
}

at::Tensor Memory::energy(const at::Tensor& states) const {
  const auto result = energy_of(checked(states, "states"));
  return states.dim() == 1 ? result.squeeze(0) : result;
}

BestMatches Memory::best_matches_of(const at::Tensor& states, int64_t k) const {
  return detail::best_rows(states, patterns(), k);
}

BestMatches Memory::best_matches(const at::Tensor& states, int64_t k) const {
  at::NoGradGuard no_grad;
  TORCH_CHECK(k > 0, prefix(), "expected k to be positive, got ", k);
  auto result = best_matches_of(checked(states.detach(), "states"), k);
  if (states.dim() == 1) result = {result.indices.squeeze(0), result.values.squeeze(0)};
  return result;
}

}  // namespace hopfield::memory
