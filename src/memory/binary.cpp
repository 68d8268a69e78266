#include "memory/binary_rules.h"
#include "memory/binary_updates.h"
#include "memory/file.h"
#include "memory/sweeps.h"
#include <hopfield/memory/binary.h>

#include <ATen/ATen.h>

namespace hopfield::memory {
namespace {

constexpr const char* kRules[] = {"hebb", "storkey", "pseudo_inverse"};
constexpr const char* kBools[] = {"false", "true"};

}  // namespace

BinaryNetwork::BinaryNetwork(const BinaryOptions& options) : settings_(options.settings()) {}

BinaryNetwork::BinaryNetwork(const at::Tensor& patterns, const BinaryOptions& options) : BinaryNetwork(options) {
  adopt(patterns);
}

BinaryNetwork::~BinaryNetwork() = default;

double BinaryNetwork::unit() const { return detail::unit_of(settings_.rule, patterns().size(1)); }

at::Tensor BinaryNetwork::weights() const { return couplings_ * unit(); }

at::Tensor BinaryNetwork::thresholds() const {
  const auto stored = patterns();
  return thresholds_.defined() ? thresholds_.clone() : at::zeros({stored.size(1)}, stored.options());
}

/// Makes couplings and thresholds those of the network, or throws before anything has changed.
void BinaryNetwork::take(const at::Tensor& couplings, const at::Tensor& thresholds) {
  const auto shifts = thresholds.defined() ? thresholds : at::zeros({couplings.size(0)}, couplings.options());
  exact_ = std::make_unique<const detail::BinaryWeights>(detail::exact_weights(couplings, shifts, unit()));
  couplings_ = couplings;
  thresholds_ = thresholds;
}

void BinaryNetwork::set_thresholds(const at::Tensor& thresholds) {
  at::NoGradGuard no_grad;
  const auto stored = patterns();
  TORCH_CHECK(thresholds.defined() && thresholds.dim() == 1 && thresholds.size(0) == stored.size(1) &&
                  thresholds.scalar_type() == stored.scalar_type() && thresholds.device() == stored.device(),
              prefix(), "expected thresholds [", stored.size(1), "] of type ", stored.scalar_type(), " on ",
              stored.device(), " like the patterns, got ",
              thresholds.defined()
                  ? c10::str(thresholds.sizes(), " of type ", thresholds.scalar_type(), " on ", thresholds.device())
                  : "an undefined tensor");
  TORCH_CHECK(at::isfinite(thresholds).all().item<bool>(), prefix(),
              "expected finite thresholds, got some that are infinite or not a number");
  take(couplings_, thresholds.detach().clone());
}

void BinaryNetwork::learn(int64_t before) {
  take(detail::learned(settings_, couplings_, patterns(), before), thresholds_);
}

void BinaryNetwork::unlearn(const at::Tensor& kept, const at::Tensor& removed, const at::Tensor& forgotten) {
  static_cast<void>(removed);
  if (kept.numel() == 0) {
    couplings_.reset();
    thresholds_.reset();
    exact_.reset();
  } else if (settings_.rule == LearningRule::hebb) {
    take(detail::unlearned(settings_, couplings_, forgotten), thresholds_);
  } else {
    take(detail::learned(settings_, {}, patterns(), 0), thresholds_);
  }
}

at::Tensor BinaryNetwork::energy_of(const at::Tensor& states) const {
  return detail::energies_of(*exact_, states, detail::fields_of(*exact_, states));
}

Recall BinaryNetwork::recall(const at::Tensor& queries, const RecallSettings& settings) const {
  detail::check_sweeps(settings, prefix());
  const auto states = queries.clone(at::MemoryFormat::Contiguous);
  if (settings.update == Update::synchronous) {
    return detail::make_sweeps(states, settings, [&](const detail::Sweep& sweep, const at::Tensor& active) {
      return detail::update_at_once(*exact_, states, active, sweep);
    });
  }
  const auto fields = detail::fields_of(*exact_, states);
  auto recall = detail::make_sweeps(states, settings, [&](const detail::Sweep& sweep, const at::Tensor& active) {
    return detail::update_in_order(*exact_, states, fields, active, sweep);
  });
  recall.energy = detail::energies_of(*exact_, states, fields);
  return recall;
}

void BinaryNetwork::write(io::SafetensorsFile& file) const {
  file.metadata["rule"] = kRules[static_cast<size_t>(settings_.rule)];
  file.metadata["self_coupling"] = kBools[settings_.self_coupling ? 1 : 0];
  file.tensors.insert("couplings", couplings_);
  if (thresholds_.defined()) file.tensors.insert("thresholds", thresholds_);
}

std::unique_ptr<Memory> BinaryNetwork::read(const detail::MemoryFile& file) {
  BinaryOptions options;
  options.rule(static_cast<LearningRule>(file.choice("rule", kRules)));
  options.self_coupling(file.choice("self_coupling", kBools) == 1);
  auto network = std::make_unique<BinaryNetwork>(options);
  network->restore(file.tensor("patterns", 2));
  const auto patterns = network->patterns();
  const auto couplings = file.tensor("couplings", 2);
  const auto neurons = patterns.size(1);
  TORCH_CHECK(
      couplings.size(0) == neurons && couplings.size(1) == neurons && couplings.scalar_type() == patterns.scalar_type(),
      "hopfield::memory::load: expected 'couplings' in ", file.path, " to be [", neurons, ", ", neurons, "] of type ",
      patterns.scalar_type(), " like the patterns, got ", couplings.sizes(), " of type ", couplings.scalar_type());
  TORCH_CHECK(at::isfinite(couplings).all().item<bool>() && couplings.equal(couplings.t()),
              "hopfield::memory::load: expected 'couplings' in ", file.path,
              " to be finite and symmetric, got others; the file has been changed");
  network->take(couplings, {});
  if (file.content.tensors.contains("thresholds")) network->set_thresholds(file.tensor("thresholds", 1));
  return network;
}

}  // namespace hopfield::memory
