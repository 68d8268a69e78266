#include "memory/best_rows.h"
#include "memory/file.h"
#include <hopfield/core/update.h>
#include <hopfield/memory/continuous.h>
#include <hopfield/ops/retrieve.h>

#include <ATen/ATen.h>

#include <cmath>

namespace hopfield::memory {
namespace {

constexpr const char* kSimilarities[] = {"dot", "cosine", "euclidean"};
constexpr const char* kSeparations[] = {"softmax", "softmax1", "sparsemax", "entmax"};

/// Rows of norm 1; rows of zeros stay.
at::Tensor unit(const at::Tensor& rows) {
  const auto norms = at::linalg_vector_norm(rows, 2, {-1}, /*keepdim=*/true);
  return rows / at::where(norms > 0, norms, 1.0);
}

}  // namespace

ContinuousMemory::ContinuousMemory(const ContinuousOptions& options) : settings_(options.settings()) {
  TORCH_CHECK(!settings_.beta || (*settings_.beta > 0 && std::isfinite(*settings_.beta)), prefix(),
              "expected beta to be positive and finite, got ", *settings_.beta);
  const auto& separation = settings_.separation;
  TORCH_CHECK(!separation.is_sparse() || (separation.alpha() > 1 && separation.alpha() <= 2), prefix(),
              "expected the alpha of separation entmax(alpha) to be above 1 and at most 2, got ", separation.alpha());
  TORCH_CHECK(
      separation.kind() != Separation::Kind::softmax1 || settings_.similarity != Similarity::euclidean, prefix(),
      "expected the similarity dot or cosine with the separation softmax1, got euclidean, whose scores are known "
      "but for what is the same for all patterns");
}

RetrieveOptions ContinuousMemory::retrieve_options() const {
  return RetrieveOptions().beta(beta()).separation(settings_.separation);
}

ContinuousMemory::ContinuousMemory(const at::Tensor& patterns, const ContinuousOptions& options)
    : ContinuousMemory(options) {
  adopt(patterns);
}

double ContinuousMemory::beta() const {
  return settings_.beta ? *settings_.beta : 1.0 / std::sqrt(static_cast<double>(patterns().size(1)));
}

at::Tensor ContinuousMemory::weights() const {
  const auto stored = patterns();
  return log_weights_.size() > 0 ? log_weights_.rows().exp() : at::ones({size()}, stored.options());
}

void ContinuousMemory::store(const at::Tensor& patterns, const at::Tensor& values) {
  at::NoGradGuard no_grad;
  TORCH_CHECK(patterns.defined() && patterns.dim() == 2, prefix(),
              "expected patterns [N, d] with values [N, d_v], got ",
              patterns.defined() ? c10::str(patterns.sizes()) : "an undefined tensor");
  TORCH_CHECK(values.defined() && values.dim() == 2 && values.size(0) == patterns.size(0), prefix(),
              "expected values [N, d_v] with N = ", patterns.size(0), " like the patterns, got ",
              values.defined() ? c10::str(values.sizes()) : "an undefined tensor");
  TORCH_CHECK(values.scalar_type() == patterns.scalar_type() && values.device() == patterns.device(), prefix(),
              "expected values to be ", patterns.scalar_type(), " on ", patterns.device(), " like the patterns, got ",
              values.scalar_type(), " on ", values.device(), "; convert them with to()");
  TORCH_CHECK(at::isfinite(values).all().item<bool>(), prefix(),
              "expected finite values, got some that are infinite or not a number");
  TORCH_CHECK(values_.size() == size(), prefix(), "expected patterns without values, as stored before, got values ",
              values.sizes());
  TORCH_CHECK(size() == 0 || values.size(1) == values_.rows().size(1), prefix(), "expected values of the width ",
              values_.rows().size(1), ", as stored before, got ", values.sizes());
  auto old_values = values_;
  values_.append(values.detach());
  try {
    Memory::store(patterns);
  } catch (...) {
    values_ = std::move(old_values);
    throw;
  }
}

void ContinuousMemory::learn(int64_t before) {
  TORCH_CHECK(values_.size() == 0 || values_.size() == size(), prefix(),
              "expected patterns with values, as stored before, got patterns alone; call store(patterns, values)");
  const auto added = patterns().narrow(0, before, size() - before);
  if (settings_.similarity == Similarity::cosine) unit_patterns_.append(unit(added));
  if (log_weights_.size() > 0) log_weights_.append(at::zeros({added.size(0)}, added.options()));
}

void ContinuousMemory::unlearn(const at::Tensor& kept, const at::Tensor& removed, const at::Tensor& forgotten) {
  static_cast<void>(removed), static_cast<void>(forgotten);
  for (auto* rows : {&unit_patterns_, &values_, &log_weights_}) {
    if (rows->size() > 0) *rows = GrowingRows(rows->rows().index_select(0, kept));
  }
}

void ContinuousMemory::set_weights(const at::Tensor& weights) {
  at::NoGradGuard no_grad;
  const auto stored = patterns();
  TORCH_CHECK(weights.defined() && weights.dim() == 1 && weights.size(0) == size() &&
                  at::isFloatingType(weights.scalar_type()) && weights.device() == stored.device(),
              prefix(), "expected floating-point weights [N] = [", size(), "] on ", stored.device(), ", got ",
              weights.defined()
                  ? c10::str(weights.sizes(), " of type ", weights.scalar_type(), " on ", weights.device())
                  : "an undefined tensor");
  TORCH_CHECK((weights > 0).bitwise_and(at::isfinite(weights)).all().item<bool>(), prefix(),
              "expected positive, finite weights, got others; call forget() for patterns that are not to count");
  log_weights_ = GrowingRows(weights.detach().to(at::kDouble).log().to(stored.scalar_type()));
}

void ContinuousMemory::age(double factor) {
  at::NoGradGuard no_grad;
  TORCH_CHECK(factor > 0 && factor <= 1, prefix(), "expected a factor in (0, 1], got ", factor);
  const auto stored = patterns();
  const auto present = log_weights_.size() > 0 ? log_weights_.rows() : at::zeros({size()}, stored.options());
  log_weights_ = GrowingRows(present + std::log(factor));
}

at::Tensor ContinuousMemory::as_keys(const at::Tensor& rows) const {
  return settings_.similarity == Similarity::cosine ? unit(rows) : rows;
}

at::Tensor ContinuousMemory::keys() const {
  return settings_.similarity == Similarity::cosine ? unit_patterns_.rows() : patterns();
}

/// What the scores of the patterns have besides beta xi.x, or undefined. [N]
at::Tensor ContinuousMemory::key_bias() const {
  at::Tensor bias;
  if (settings_.similarity == Similarity::euclidean) bias = squared_norms() * (-0.5 * beta());
  if (log_weights_.size() > 0) bias = bias.defined() ? bias + log_weights_.rows() : log_weights_.rows();
  return bias.defined() ? bias.to(patterns().scalar_type()) : bias;
}

double ContinuousMemory::update_steps_eps(const RecallSettings& settings) const {
  if (settings.update_steps_eps) return *settings.update_steps_eps;
  return (patterns().scalar_type() == at::kDouble ? 1e-12 : 1e-6) * std::sqrt(squared_norms().max().item<double>());
}

at::Tensor ContinuousMemory::energy_from(const at::Tensor& logsumexp, const at::Tensor& states) const {
  const auto logarithms = log_weights_.size() > 0 ? log_weights_.rows().to(at::kDouble)
                                                  : at::zeros({size()}, states.options().dtype(at::kDouble));
  auto constant = core::conjugate(logarithms, settings_.separation).item<double>() / beta();
  if (settings_.similarity != Similarity::euclidean) constant += 0.5 * squared_norms().max().item<double>();
  return 0.5 * states.pow(2).sum(-1) - logsumexp / beta() + constant;
}

at::Tensor ContinuousMemory::energy_of(const at::Tensor& states) const {
  const auto result = hopfield::retrieve({states, keys(), {}, Masks({}, {}, key_bias())}, retrieve_options());
  return energy_from(result.logsumexp, states);
}

Recall ContinuousMemory::recall(const at::Tensor& queries, const RecallSettings& settings) const {
  RetrieveInput input{queries, keys(), values_.rows(), Masks({}, {}, key_bias())};
  if (!input.projection.defined() && settings_.similarity == Similarity::cosine) input.projection = patterns();
  const auto result = hopfield::retrieve(input, retrieve_options()
                                                    .update_steps_max(settings.update_steps_max)
                                                    .update_steps_cap(settings.update_steps_cap)
                                                    .update_steps_eps(update_steps_eps(settings)));
  Recall recall;
  recall.state = result.state;
  recall.output = result.output;
  recall.energy = energy_from(result.logsumexp, result.state);
  recall.steps = result.steps;
  recall.converged = result.converged;
  recall.residual = result.residual;
  recall.period = result.converged.to(at::kLong);
  return recall;
}

Recall ContinuousMemory::retrieve(const at::Tensor& queries, const at::Tensor& known,
                                  const RecallOptions& options) const {
  at::NoGradGuard no_grad;
  TORCH_CHECK(queries.defined() && known.defined() && known.scalar_type() == at::kBool &&
                  known.sizes() == queries.sizes() && known.device() == queries.device(),
              prefix(), "expected known to be bool and to have the shape and device of the queries, got ",
              known.defined() ? c10::str(known.sizes(), " of type ", known.scalar_type(), " on ", known.device())
                              : "an undefined tensor");
  const auto cues = as_keys(checked(queries.detach().masked_fill(known.bitwise_not(), 0.0), "queries"));
  const auto mask = known.view_as(cues);
  return completed(recall_known(cues, mask, options.settings()), cues, mask, options.settings(), queries.dim() == 1);
}

Recall ContinuousMemory::recall_known(const at::Tensor& cues, const at::Tensor& known,
                                      const RecallSettings& settings) const {
  const auto rows = keys();
  const auto mask = known.to(rows.scalar_type());
  const bool euclidean = settings_.similarity == Similarity::euclidean;
  // The distance over the known features alone: |(xi - x) m|^2 / 2 differs from -[xi m, m].[x, -x^2 / 2] by what is the
  // same for all patterns.
  RetrieveInput input;
  input.stored = euclidean ? at::cat({rows, rows.pow(2).mul_(-0.5)}, -1) : rows;
  if (log_weights_.size() > 0) input.masks.key_bias = log_weights_.rows();
  const auto read_out = values_.size() > 0 ? values_.rows() : patterns();
  const auto associate = [&](const at::Tensor& states, const at::Tensor& masks, const at::Tensor& projection) {
    const auto seen = states * masks;
    input.state = euclidean ? at::cat({seen, masks}, -1) : seen;
    input.projection = projection;
    return hopfield::retrieve(input, retrieve_options()).output;
  };

  const auto steps_max = settings.update_steps_max < 0 ? settings.update_steps_cap : settings.update_steps_max;
  const auto eps = update_steps_eps(settings);
  Recall recall;
  recall.state = cues.clone();
  recall.steps = at::zeros({cues.size(0)}, cues.options().dtype(at::kLong));
  recall.residual = at::full({cues.size(0)}, std::numeric_limits<double>::quiet_NaN(), cues.options());
  auto active = at::arange(cues.size(0), recall.steps.options());  // [Q']: rows that are still updated
  for (int64_t step = 0; step < steps_max && active.numel() > 0; ++step) {
    const auto before = recall.state.index_select(0, active);
    const auto active_known = known.index_select(0, active);
    auto next = associate(before, mask.index_select(0, active), rows);
    if (settings.keep_known) next = at::where(active_known, before, next);
    const auto residual = at::linalg_vector_norm(next - before, 2, {-1});
    recall.state.index_copy_(0, active, next);
    recall.residual.index_copy_(0, active, residual);
    recall.steps.index_add_(0, active, at::ones_like(active));
    // What is known decides the scores: if it stays, another update would change nothing.
    if (settings.keep_known) {
      recall.residual.zero_();
      break;
    }
    active = active.index({residual > eps});
  }
  recall.converged = recall.residual <= eps;
  recall.period = recall.converged.to(at::kLong);
  recall.output = associate(recall.state, mask, read_out);
  return recall;
}

BestMatches ContinuousMemory::best_matches_of(const at::Tensor& states, int64_t k) const {
  if (settings_.similarity != Similarity::euclidean) return detail::best_rows(as_keys(states), keys(), k);
  return detail::nearest_rows(states, keys(), squared_norms(), k);
}

void ContinuousMemory::write(io::SafetensorsFile& file) const {
  if (settings_.beta) file.metadata["beta"] = detail::text_of(*settings_.beta);
  file.metadata["separation"] = kSeparations[static_cast<size_t>(settings_.separation.kind())];
  file.metadata["alpha"] = detail::text_of(settings_.separation.alpha());
  file.metadata["similarity"] = kSimilarities[static_cast<size_t>(settings_.similarity)];
  if (values_.size() > 0) file.tensors.insert("values", values_.rows());
  if (log_weights_.size() > 0) file.tensors.insert("log_weights", log_weights_.rows());
}

std::unique_ptr<Memory> ContinuousMemory::read(const detail::MemoryFile& file) {
  const auto patterns = file.tensor("patterns", 2);
  ContinuousOptions options;
  if (file.content.metadata.count("beta") > 0) options.beta(file.number("beta"));
  options.similarity(static_cast<Similarity>(file.choice("similarity", kSimilarities)));
  const Separation separations[] = {Separation::softmax(), Separation::softmax1(), Separation::sparsemax(),
                                    Separation::entmax(file.number("alpha"))};
  options.separation(separations[file.choice("separation", kSeparations)]);
  auto memory = std::make_unique<ContinuousMemory>(options);
  if (file.content.tensors.contains("values")) {
    memory->store(patterns, file.tensor("values", 2));
  } else {
    memory->adopt(patterns);
  }
  if (file.content.tensors.contains("log_weights")) {
    const auto log_weights = file.tensor("log_weights", 1);
    memory->set_weights(log_weights.exp());                                      // checks them
    memory->log_weights_ = GrowingRows(log_weights.to(patterns.scalar_type()));  // and keeps their bits
  }
  return memory;
}

}  // namespace hopfield::memory
