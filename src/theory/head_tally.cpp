#include "theory/head_tally.h"

#include "theory/k90.h"

#include <ATen/ATen.h>

#include <limits>
#include <sstream>

namespace hopfield::theory {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

/// [n, H, l] to [H, n * l], on the CPU.
at::Tensor by_head(const at::Tensor& numbers) { return numbers.transpose(0, 1).flatten(1).cpu(); }

/// The lower median of each row, without the entries that do not count. [H, R] to [H]
at::Tensor median(const at::Tensor& numbers, const at::Tensor& counted) {
  return std::get<0>(numbers.masked_fill(counted.logical_not(), kNaN).nanmedian(-1));
}

/// Shares of [H] as classes [H].
at::Tensor classes_of(const at::Tensor& share) {
  const auto above = (share > 0.5).to(at::kLong) + (share > 0.125) + (share > 0.03125);
  return (4 - above).masked_fill_(share.isnan(), 0);
}

at::Tensor histogram_of(const at::Tensor& k90) {
  const auto most = k90.max().item<int64_t>();
  auto histogram = at::zeros({k90.size(0), most + 1}, at::kLong);
  for (int64_t head = 0; head < k90.size(0); ++head) histogram[head] = k90[head].bincount({}, most + 1);
  histogram.select(1, 0).zero_();
  return histogram;
}

}  // namespace

HeadTally::HeadTally(const char* function, int64_t heads) : function_(function) {
  // A query that does not count, so that there are medians without any other.
  k90_.push_back(at::zeros({heads, 1}, at::kLong));
  live_.push_back(at::ones({heads, 1}, at::kLong));
  entropy_.push_back(at::zeros({heads, 1}, at::kDouble));
}

void HeadTally::add(const at::Tensor& weights, const at::Tensor& excluded, const at::Tensor& ignored) {
  auto live_weights = weights.to(at::kDouble);
  if (excluded.defined()) live_weights = live_weights.masked_fill(excluded, 0.0);
  if (ignored.defined()) live_weights = live_weights.masked_fill(ignored, 0.0);
  const auto valid = (live_weights >= 0).logical_and_(live_weights < std::numeric_limits<double>::infinity());
  if (!valid.all().item<bool>()) {
    TORCH_CHECK(false, function_, ": expected weights that are finite and not negative where a query may attend, got ",
                live_weights.masked_select(valid.logical_not())[0].item<double>());
  }
  const auto sums = live_weights.sum(-1, /*keepdim=*/true);
  const auto p = live_weights / sums.masked_fill(sums == 0, 1.0);
  const auto live = excluded.defined()
                        ? excluded.expand(weights.sizes()).logical_not().sum(-1)
                        : at::full(sums.sizes().slice(0, 3), weights.size(-1), sums.options().dtype(at::kLong));
  k90_.push_back(by_head(k90(live_weights)));
  live_.push_back(by_head(live));
  entropy_.push_back(by_head(at::xlogy(p, p).sum(-1).neg_()));
}

HeadClasses HeadTally::result() const {
  const auto k90 = at::cat(k90_, 1), live = at::cat(live_, 1).to(at::kDouble), entropy = at::cat(entropy_, 1);
  const auto counted = k90 > 0;
  HeadClasses heads;
  heads.queries = counted.sum(-1);
  heads.median_share = median(k90 / live, counted);
  heads.median_k90 = median(k90.to(at::kDouble), counted);
  heads.classes = classes_of(heads.median_share);
  heads.entropy = entropy.masked_fill(counted.logical_not(), 0.0).sum(-1) / heads.queries;
  heads.histogram = histogram_of(k90);
  heads.class_four_possible = median(live.reciprocal(), counted) <= 0.03125;
  return heads;
}

std::string HeadClasses::note() const {
  const auto few = class_four_possible.logical_not().logical_and(queries > 0).nonzero().flatten();
  if (few.numel() == 0) return "";
  std::ostringstream text;
  text << "Class IV cannot occur with fewer than 32 live keys, which is so of head";
  if (few.numel() > 1) text << "s";
  for (int64_t i = 0; i < few.numel(); ++i) text << (i == 0 ? " " : ", ") << few[i].item<int64_t>();
  text << ".";
  return text.str();
}

const char* head_class_name(int64_t head_class) {
  constexpr const char* kNames[] = {"none", "I", "II", "III", "IV"};
  TORCH_CHECK(head_class >= 0 && head_class <= 4,
              "hopfield::theory::head_class_name: expected head_class to be from 0 to 4, got ", head_class);
  return kNames[head_class];
}

}  // namespace hopfield::theory
