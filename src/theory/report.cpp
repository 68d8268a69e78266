#include <hopfield/theory/report.h>

#include <ATen/ATen.h>

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <iterator>
#include <limits>
#include <set>

namespace hopfield::theory {
namespace {

double slack_of(const Guarantees& guarantees) {
  return 8 * std::numeric_limits<double>::epsilon() * guarantees.separation.largest_norm;
}

double largest(const at::Tensor& values) { return values.numel() == 0 ? 0.0 : values.max().item<double>(); }

std::string times(double log_number) {
  if (std::isnan(log_number)) return "no number";
  return log_number < 14 ? fmt::format("{:.0f}", std::floor(std::exp(log_number) * (1 + 1e-12)))
                         : fmt::format("10^{:.1f}", log_number / std::log(10.0));
}

class Page {
 public:
  template <typename... Args>
  void line(fmt::format_string<Args...> format, Args&&... args) {
    fmt::format_to(std::back_inserter(text_), format, std::forward<Args>(args)...);
    text_ += '\n';
  }
  std::string text() && { return std::move(text_); }

 private:
  std::string text_;
};

void write_patterns(Page& page, const Report& report) {
  const auto& g = report.guarantees;
  const auto& separation = g.separation;
  page.line("{} patterns of {} features, beta {:.6g}, largest norm M = {:.6g}", separation.count(), report.width,
            g.beta, separation.largest_norm);
  const auto sorted = std::get<0>(separation.delta.sort());
  page.line("separation Delta: least {:.4g}, median {:.4g}, largest {:.4g}", sorted[0].item<double>(),
            sorted[separation.count() / 2].item<double>(), sorted[-1].item<double>());
  page.line("well separated, Delta >= 2 / (beta N) + ln(2 (N - 1) N beta M^2) / beta = {:.4g}: {} of {} patterns",
            g.required, g.count(), separation.count());
  const auto order = separation.delta.argsort();
  const auto failing = separation.count() - g.count();
  // The largest and the least separation, and those on both sides of what is required.
  std::set<int64_t, std::greater<>> places{0, separation.count() - 1};
  if (failing > 0 && g.count() > 0) places.insert({failing - 1, failing});
  for (const auto place : places) page.line("  {}", g.words(order[place].item<int64_t>()));
  if (std::isinf(report.separating_beta)) {
    const auto best = separating_beta(largest(separation.delta), separation.count(), separation.largest_norm);
    page.line("No beta separates all patterns: {} have Delta <= 0. The best one is well separated from beta {:.4g} on.",
              (separation.delta <= 0).sum().item<int64_t>(), best);
  } else {
    page.line("All patterns are well separated from beta {:.4g} on.", report.separating_beta);
  }
}

void write_running(Page& page, const Report& report) {
  const auto& t = report.trajectories;
  page.line("");
  page.line(
      "Theorem 1, the energy never rises: the largest change in one update of {} queries is {:.2g} of max(1, |E|).",
      t.state.size(0), t.largest_rise);
  page.line("Theorem 2, limit points are stationary: after at most {} updates, |xi - f(xi)| is at most {:.2g}.",
            t.steps.max().item<int64_t>(), largest(t.gradient));
}

void write_sphere(Page& page, const Report& report) {
  const auto& s = report.sphere;
  page.line("");
  page.line("Theorem 3, random patterns of the norm M with the probability 0.999: {}",
            s.is_guaranteed() ? fmt::format("at least {} can be stored (c = {:.5g} >= {:.5g})", times(s.log_patterns),
                                            s.c, s.required_c)
                              : fmt::format("no guarantee: c = {:.5g} < {:.5g}", s.c, s.required_c));
}

void write_bounds(Page& page, const Report& report) {
  const auto& b = report.bounds;
  page.line("");
  page.line("Theorems 4 and 5 speak about {} of {} queries: those within {:.3g} of a well-separated pattern.",
            report.qualifying, b.pattern.size(0), report.guarantees.radius);
  if (report.qualifying == 0) return;
  const auto of = [&](const at::Tensor& values) { return largest(values.masked_select(b.qualifies)); };
  page.line("  {:<52}{:>12}{:>12}", "largest of these queries", "guaranteed", "observed");
  page.line("  {:<52}{:>12.3g}{:>12.3g}", "T4: distance to the fixed point after one update", of(b.update_bound),
            of(b.update_distance));
  page.line("  {:<52}{:>12.3g}{:>12.3g}", "T5: distance to the pattern after one update", of(b.retrieval_bound),
            of(b.retrieval_error));
  page.line("  {:<52}{:>12.3g}{:>12.3g}", "T5: distance between fixed point and pattern", of(b.fixed_point_bound),
            of(b.fixed_point_error));
  page.line("  All bounds hold for {} of {}.", report.held, report.qualifying);
}

void write_capacities(Page& page, const Report& report) {
  const auto d = static_cast<double>(report.width);
  page.line("");
  page.line("Random patterns of {} features that the memories hold:", report.width);
  page.line("  BinaryNetwork        {:.4g} with few errors (0.138 d)", capacity_of_binary_network(d));
  for (const int degree : {3, 4}) {
    page.line("  PolynomialMemory     {:.4g} with the order {} and one wrong bit in 200",
              capacity_of_polynomial_memory(degree, d), degree);
  }
  page.line("  ExponentialMemory    {} (2^(d/2))", times(log_capacity_of_exponential_memory(d)));
  page.line("  ContinuousMemory     {} at the squared norm d and beta 1", times(load_of_continuous_memory(1.0) * d));
}

}  // namespace

std::string Report::page() const {
  Page page;
  write_patterns(page, *this);
  write_running(page, *this);
  write_sphere(page, *this);
  write_bounds(page, *this);
  write_capacities(page, *this);
  return std::move(page).text();
}

Report report(const at::Tensor& patterns, double beta, const at::Tensor& queries) {
  constexpr int64_t kQueries = 1000;
  const at::NoGradGuard no_grad;
  Report result;
  result.guarantees = guarantees(patterns, beta);
  const auto& separation = result.guarantees.separation;
  const auto count = separation.count();
  result.width = patterns.size(1);
  result.separating_beta = largest(separating_betas(separation));
  if (result.width >= 2) {
    const auto factor = separation.largest_norm / std::sqrt(static_cast<double>(result.width - 1));
    result.sphere = sphere_capacity(beta, factor, static_cast<int>(result.width));
  }
  auto cues = queries;
  if (!cues.defined()) {
    const auto chosen = std::min(count, kQueries);
    cues = patterns.index_select(0, at::arange(chosen, separation.nearest.options()).mul_(count).floor_divide_(chosen));
  }
  result.bounds = query_bounds(patterns, cues, result.guarantees);
  result.trajectories = run(patterns, beta, cues);
  const auto& b = result.bounds;
  const auto slack = slack_of(result.guarantees);
  const auto holds = (b.update_distance <= b.update_bound + slack)
                         .logical_and(b.retrieval_error <= b.retrieval_bound + slack)
                         .logical_and(b.fixed_point_error <= b.fixed_point_bound + slack);
  result.qualifying = b.qualifies.sum().item<int64_t>();
  result.held = holds.logical_and(b.qualifies).sum().item<int64_t>();
  return result;
}

}  // namespace hopfield::theory
