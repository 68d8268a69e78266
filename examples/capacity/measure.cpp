#include "measure.h"

#include <hopfield/memory/binary.h>
#include <hopfield/memory/continuous.h>
#include <hopfield/memory/exponential.h>
#include <hopfield/memory/polynomial.h>
#include <hopfield/theory/capacity.h>

#include <ATen/CPUGeneratorImpl.h>
#include <torch/types.h>

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace hopfield::capacity {
namespace {

using memory::RecallOptions;
using memory::Update;
using theory::bit_error_of_polynomial_memory;
using theory::capacity_of_polynomial_memory;
using theory::load_of_continuous_memory;
using theory::overlap_of_binary_network;

/// Random patterns, each call others.
class Draw {
 public:
  explicit Draw(uint64_t seed) : generator_(at::detail::createCPUGenerator(seed)) {}

  at::Tensor signs(int64_t count, int64_t width) {
    return at::randint(0, 2, {count, width}, generator_, at::TensorOptions(at::kFloat)).mul_(2).sub_(1);
  }
  /// On the sphere of squared norm `width`.
  at::Tensor sphere(int64_t count, int64_t width) {
    const auto rows = at::randn({count, width}, generator_, at::TensorOptions(at::kFloat));
    return rows * (std::sqrt(static_cast<double>(width)) / rows.norm(2, -1, /*keepdim=*/true));
  }
  /// The rows with `count` of their signs changed.
  at::Tensor flipped(const at::Tensor& rows, int64_t count) {
    const auto places = at::rand(rows.sizes(), generator_, rows.options()).topk(count, -1);
    return rows * at::ones_like(rows).scatter_(1, std::get<1>(places), -1.0);
  }

 private:
  at::Generator generator_;
};

at::Tensor overlaps(const at::Tensor& states, const at::Tensor& patterns) {
  return (states * patterns).mean(-1);  // [Q]
}

double mean_of(const at::Tensor& values) { return values.to(at::kDouble).mean().item<double>(); }

/// The share of states that equal the patterns.
double equal_share(const at::Tensor& states, const at::Tensor& patterns) {
  return mean_of(states.eq(patterns).all(-1));
}

/// Where the curve y(x) crosses `level`, falling, between the points; the last x if it never does.
double crossing(const std::vector<double>& x, const std::vector<double>& y, double level) {
  for (size_t i = 1; i < x.size(); ++i) {
    if (y[i - 1] >= level && y[i] < level) return x[i - 1] + (x[i] - x[i - 1]) * (y[i - 1] - level) / (y[i - 1] - y[i]);
  }
  return x.back();
}

int64_t scaled(double count, double scale) { return std::max<int64_t>(1, std::llround(count * scale)); }

}  // namespace

Measured measure_binary(const Effort& effort) {
  constexpr int64_t kNeurons = 2000;
  Draw draw(effort.seed);
  Measured result;
  result.panel = {"BinaryNetwork, d = 2,000", "patterns / neurons", "recalls with an overlap above 0.9", {}};
  Curve recall{"measured", {}, {}, false}, theory{"theory: overlap", {}, {}, true};
  const auto loads = {0.05, 0.10, 0.12, 0.13, 0.135, 0.14, 0.145, 0.15, 0.16, 0.18};
  for (const double load : loads) {
    double above = 0, wrong = 0;
    for (int64_t network = 0; network < effort.networks; ++network) {
      const auto patterns = draw.signs(std::llround(load * kNeurons), kNeurons);
      const memory::BinaryNetwork memory(patterns);
      const auto cues = patterns.narrow(0, 0, std::min(effort.recalls, patterns.size(0)));
      const auto states = memory.retrieve(cues, RecallOptions().with_match(false)).state;
      const auto m = overlaps(states, cues);
      const auto good = m > 0.9;
      above += mean_of(good) / static_cast<double>(effort.networks);
      wrong += (mean_of(m.index({good})) - 1) / -2 / static_cast<double>(effort.networks);
    }
    recall.x.push_back(load), recall.y.push_back(above);
    if (load == 0.10 || load == 0.12 || load == 0.13) {
      const double expected = 0.5 * (1 - overlap_of_binary_network(load));
      result.figures.push_back(
          {fmt::format("binary, d 2,000: share of wrong bits at load {:.2f}, where the overlap is above 0.9", load),
           wrong, expected, 0.85 * expected, 1.15 * expected});
    }
  }
  result.figures.push_back({"binary, d 2,000: load where 10 % of the recalls fall below an overlap of 0.9",
                            crossing(recall.x, recall.y, 0.9), 0.140, 0.135, 0.145});
  for (double load = 0.05; load < 0.18; load += 0.0005) {
    theory.x.push_back(load), theory.y.push_back(overlap_of_binary_network(load));
  }
  result.panel.curves = {recall, theory};

  const auto networks = 10 * effort.networks;
  for (const int64_t count : {36, 72}) {
    double all_fixed = 0, fixed = 0;
    for (int64_t network = 0; network < networks; ++network) {
      const auto patterns = draw.signs(count, 1000);
      const auto next = memory::BinaryNetwork(patterns).retrieve(
          patterns, RecallOptions().update(Update::synchronous).update_steps_max(1).with_match(false));
      const double share = equal_share(next.state, patterns);
      all_fixed += (share == 1.0) / static_cast<double>(networks), fixed += share / static_cast<double>(networks);
    }
    if (count == 36) {
      result.figures.push_back(
          {"binary, d 1,000, N 36: networks whose patterns are all fixed points", all_fixed, 1, 0.99, 1});
    } else {
      result.figures.push_back({"binary, d 1,000, N 72: patterns that are fixed points", fixed, 0.924, 0.90, 0.95});
    }
  }
  return result;
}

Measured measure_polynomial(const Effort& effort) {
  Draw draw(effort.seed + 1);
  Measured result;
  result.panel = {"PolynomialMemory", "patterns / patterns at 0.5 %", "wrong bits after one update", {}};
  struct Size {
    int degree;
    int64_t neurons;
  };
  for (const auto& [degree, neurons] : {Size{2, 2000}, {3, 120}, {4, 128}}) {
    const auto capacity = capacity_of_polynomial_memory(degree, static_cast<double>(neurons));
    Curve measured{fmt::format("n = {}, d = {}", degree, neurons), {}, {}, false};
    Curve theory{degree == 2 ? "theory" : "", {}, {}, true};
    for (const double load : {0.6, 0.8, 1.0, 1.3, 1.7, 2.2}) {
      // At least 1,000 errors are counted at the load 1, which takes 200,000 bits.
      const auto bits = (load == 1.0 ? 4e5 : 1e5) * static_cast<double>(effort.networks) / 20;
      const auto patterns_count = std::llround(load * capacity);
      double errors = 0, seen = 0;
      const auto networks = std::max<int64_t>(1, load == 1.0 ? 2 * effort.networks : effort.networks / 2);
      for (int64_t network = 0; network < networks && (seen < bits || network < networks); ++network) {
        const auto patterns = draw.signs(patterns_count, neurons);
        const auto wanted = std::llround(bits / static_cast<double>(networks * neurons)) + 1;
        const auto cues = patterns.narrow(0, 0, std::min<int64_t>(wanted, patterns_count));
        const memory::PolynomialMemory memory(patterns, memory::PolynomialOptions().degree(degree));
        const auto next =
            memory.retrieve(cues, RecallOptions().update(Update::synchronous).update_steps_max(1).with_match(false));
        errors += next.state.ne(cues).sum().item<double>(), seen += static_cast<double>(cues.numel());
      }
      const double share = errors / seen;
      measured.x.push_back(load), measured.y.push_back(share);
      if (load == 1.0) {
        result.figures.push_back(
            {fmt::format("polynomial, n {}, d {}, N {}: wrong bits after one update ({:.0f} counted)", degree, neurons,
                         patterns_count, errors),
             share, 0.005, 0.0045, 0.0055});
      }
      theory.x.push_back(load);
      theory.y.push_back(bit_error_of_polynomial_memory(degree, load * capacity, static_cast<double>(neurons)));
    }
    result.panel.curves.push_back(measured);
    if (degree == 2) result.panel.curves.push_back(theory);  // the same for all degrees
  }
  return result;
}

Measured measure_exponential(const Effort& effort) {
  Draw draw(effort.seed + 2);
  Measured result;
  result.panel = {
      "ExponentialMemory, 10 % of the bits flipped", "log2(patterns) / neurons", "patterns that come back", {}};
  const auto stable = [&](int64_t neurons, int64_t patterns_count, int64_t cues_count, int64_t flips) {
    const auto patterns = draw.signs(patterns_count, neurons);
    const auto chosen = patterns.narrow(0, 0, std::min(cues_count, patterns_count));
    const auto cues = flips > 0 ? draw.flipped(chosen, flips) : chosen;
    const auto recall =
        memory::ExponentialMemory(patterns).retrieve(cues, RecallOptions().update_steps_max(1).with_match(false));
    return equal_share(recall.state, chosen);
  };
  const auto cues = scaled(65536, effort.scale);
  result.figures.push_back({fmt::format("exponential, d 32, N 65,536: stable patterns ({} tried)", cues),
                            stable(32, 65536, cues, 0), 0.99976, 0.9995, 1});
  result.figures.push_back({fmt::format("exponential, d 40, N 65,536: stable patterns ({} tried)", cues),
                            stable(40, 65536, cues, 0), 1, 1, 1});
  result.figures.push_back({"exponential, d 48, N 4,096: patterns back from 5 flips after one sweep",
                            stable(48, 4096, 4096, 5), 1, 0.999, 1});
  for (const int64_t neurons : {20, 30}) {
    Curve curve{fmt::format("d = {}", neurons), {}, {}, false};
    for (int64_t bits = 2; bits <= 16; bits += 2) {
      curve.x.push_back(static_cast<double>(bits) / static_cast<double>(neurons));
      curve.y.push_back(stable(neurons, int64_t{1} << bits, scaled(2000, std::sqrt(effort.scale)), neurons / 10));
    }
    result.panel.curves.push_back(curve);
  }
  // N < 2^(0.2655 d) where a tenth of the bits is wrong, for many neurons.
  result.panel.curves.push_back({"theory: limit for many neurons", {0.2655, 0.2655}, {0, 1}, true, false});
  return result;
}

Measured measure_continuous(const Effort& effort) {
  Draw draw(effort.seed + 3);
  Measured result;
  result.panel = {"ContinuousMemory, beta = 1, squared norm d",
                  "ln(patterns) / d",
                  "patterns that end at an overlap above 0.5",
                  {}};
  for (const int dimension : {16, 20, 24}) {
    const auto expected = load_of_continuous_memory(1.0, dimension);
    Curve curve{fmt::format("d = {}", dimension), {}, {}, false};
    for (const double offset : {-0.05, -0.02, -0.01, 0.0, 0.01, 0.03}) {
      const auto load = expected + offset;
      double share = 0;
      // Small networks differ more from each other.
      const int64_t networks = std::max<int64_t>(1, effort.networks / (dimension == 16 ? 1 : dimension == 20 ? 4 : 20));
      for (int64_t network = 0; network < networks; ++network) {
        const auto patterns = draw.sphere(std::llround(std::exp(load * dimension)), dimension);
        const auto cues = patterns.narrow(0, 0, std::min<int64_t>(2 * effort.recalls, patterns.size(0)));
        const memory::ContinuousMemory memory(patterns, memory::ContinuousOptions().beta(1.0));
        const auto recall = memory.retrieve(cues, RecallOptions().with_match(false).update_steps_eps(1e-3));
        share += mean_of(overlaps(recall.state, cues) > 0.5) / static_cast<double>(networks);
      }
      curve.x.push_back(load), curve.y.push_back(share);
    }
    result.figures.push_back(
        {fmt::format("continuous, d {}: load where half of the patterns end at an overlap above 0.5", dimension),
         crossing(curve.x, curve.y, 0.5), expected, expected - 0.01, expected + 0.01});
    result.panel.curves.push_back(curve);
    result.panel.curves.push_back({fmt::format("theory, d = {}", dimension), {expected, expected}, {0, 1}, true});
  }
  return result;
}

}  // namespace hopfield::capacity
