#include <hopfield/memory/binary.h>

#include <ATen/ATen.h>

#include <algorithm>

namespace hopfield::memory {
namespace {

/// Finds three patterns of which a state is the mixture. A pattern with a sign objects to a state at the neurons where
/// it differs. The mixture of three is the state exactly if no two of them object at the same neuron. The three are
/// different patterns then, unless one of them is the state, as a pattern and its inverse object at all neurons.
class MixtureSearch {
 public:
  /// @param patterns  [N, d]
  /// @param state     [d]
  /// @param overlaps  patterns . state [N]
  MixtureSearch(const at::Tensor& patterns, const at::Tensor& state, const at::Tensor& overlaps)
      : patterns_(patterns), state_(state), overlaps_(at::cat({overlaps, -overlaps})) {}

  StateName find() const {
    // At each neuron, the three agree with the state two times more often than they object to it, or more: the sum of
    // their overlaps with the state is d at least.
    const auto leaders = overlaps_.ge(static_cast<double>(state_.size(0)) / 3).nonzero().squeeze(-1);  // [n]
    for (int64_t i = 0; i < leaders.numel(); ++i) {
      const auto leader = leaders[i];
      const auto of_leader = objections(leader.unsqueeze(0));                  // [1, d]
      const auto disjoint = meetings_with_all(of_leader).eq(0);                // [2 N]
      const auto others = disjoint.nonzero().squeeze(-1);                      // [m]
      const auto of_others = objections(others);                               // [m, d]
      const auto pairs = of_others.mm(of_others.t()).eq(0).triu(1).nonzero();  // [p, 2]
      if (pairs.size(0) > 0) return name_of(at::cat({leader.unsqueeze(0), others.index_select(0, pairs[0])}).cpu());
    }
    return {};
  }

 private:
  /// 1 where a signed pattern differs from the state. Index i < N is the pattern i, index N + i its inverse. [n, d]
  at::Tensor objections(const at::Tensor& signed_patterns) const {
    const auto count = patterns_.size(0);
    const auto rows = patterns_.index_select(0, signed_patterns.remainder(count));
    const auto signs = at::where(signed_patterns < count, 1, -1).to(rows.scalar_type()).unsqueeze(-1);
    return (1 - rows * signs * state_) / 2;
  }

  /// At how many neurons every signed pattern objects together with the given one. [2 N]
  at::Tensor meetings_with_all(const at::Tensor& objections) const {
    const auto masked = (objections * state_).t();           // [d, 1]
    const auto products = patterns_.mm(masked).squeeze(-1);  // agreements minus objections among those neurons
    const auto total = objections.sum();
    return at::cat({total - products, total + products}) / 2;
  }

  StateName name_of(const at::Tensor& signed_patterns) const {
    const auto count = patterns_.size(0);
    std::vector<std::pair<int64_t, int>> members;
    for (int64_t i = 0; i < 3; ++i) {
      const auto index = signed_patterns[i].item<int64_t>();
      members.emplace_back(index % count, index < count ? 1 : -1);
    }
    std::sort(members.begin(), members.end());
    StateName name{StateKind::mixture, {}, {}};
    for (const auto& [pattern, sign] : members) {
      name.patterns.push_back(pattern);
      name.signs.push_back(sign);
    }
    return name;
  }

  at::Tensor patterns_, state_;
  at::Tensor overlaps_;  // [2 N], of signed patterns
};

}  // namespace

std::vector<StateName> BinaryNetwork::name_state(const at::Tensor& states) const {
  at::NoGradGuard no_grad;
  const auto rows = checked(states.detach(), "states");
  const auto stored = patterns();
  const auto neurons = static_cast<double>(stored.size(1));
  const auto overlaps = rows.mm(stored.t());  // [Q, N]
  const auto [largest, pattern] = overlaps.max(-1);
  const auto [smallest, inverse] = overlaps.min(-1);
  std::vector<StateName> names;
  for (int64_t query = 0; query < rows.size(0); ++query) {
    if (largest[query].item<double>() == neurons) {
      names.push_back({StateKind::pattern, {pattern[query].item<int64_t>()}, {1}});
    } else if (smallest[query].item<double>() == -neurons) {
      names.push_back({StateKind::inverse, {inverse[query].item<int64_t>()}, {-1}});
    } else {
      names.push_back(MixtureSearch(stored, rows[query], overlaps[query]).find());
    }
  }
  return names;
}

}  // namespace hopfield::memory
