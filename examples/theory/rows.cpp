#include "rows.h"

#include "common/digits.h"
#include "common/pictures.h"
#include "common/text.h"
#include <hopfield/data/csv.h>
#include <hopfield/io/safetensors.h>

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

namespace hopfield::theory_report {
namespace {

bool is_picture(const std::string& path) {
  std::error_code error;
  return examples::ending_of(path) == ".png" || std::filesystem::is_directory(path, error);
}

/// The numbers of a CSV file [n, d], or with `labelled` all columns but the last one. The library reads tables whose
/// last column is a label, of which the messages for other tables should not speak.
at::Tensor read_csv(const std::string& option, const std::string& path, bool labelled) {
  data::CsvOptions csv;
  if (labelled) csv.positive("\x1f");  // any text may then be a label
  try {
    const auto table = reading(option, [&] { return data::read_table_csv(path, csv); });
    if (labelled) return table.features;
    return at::cat({table.features, table.labels.to(at::kFloat).unsqueeze(1)}, 1);
  } catch (UsageError& error) {
    error.message = error.message.substr(0, error.message.find("; CsvOptions"));
    const std::string columns = " (features..., label)";
    const auto place = error.message.find(columns);
    if (!labelled && place != std::string::npos) error.message.erase(place, columns.size());
    if (!labelled && error.message.find("expected a number") != std::string::npos) {
      error.message += "; with --labelled, the last column is a label and is left out";
    }
    throw;
  }
}

std::string names_of(const io::TensorDict& tensors) {
  std::vector<std::string> names;
  for (const auto& entry : tensors) names.push_back(examples::quote(entry.key()));
  constexpr size_t kMost = 8;
  const auto more = names.size() > kMost ? fmt::format(" and {} more", names.size() - kMost) : "";
  names.resize(std::min(names.size(), kMost));
  return examples::joined(names) + more;
}

at::Tensor read_tensor(const std::string& option, const std::string& path, const std::string& name) {
  const auto tensors = reading(option, [&] { return io::load_safetensors(path); }).tensors;
  if (name.empty() && tensors.size() != 1) {
    throw UsageError{fmt::format("--tensor: expected the name of one of the {} tensors in {}, got nothing; it has {}",
                                 tensors.size(), examples::quote(path), names_of(tensors))};
  }
  const auto* found = name.empty() ? &tensors.begin()->value() : tensors.find(name);
  if (found == nullptr) {
    throw UsageError{fmt::format("--tensor: expected a tensor that is in {}, got {}; it has {}", examples::quote(path),
                                 examples::quote(name), names_of(tensors))};
  }
  if (found->dim() < 2 || found->numel() == 0 || found->is_complex()) {
    throw UsageError{
        fmt::format("{}: expected real numbers in at least two dimensions, [patterns, features], got {} {} "
                    "in {}",
                    option, c10::str(found->scalar_type()), c10::str(found->sizes()), examples::quote(path))};
  }
  return found->flatten(1).to(found->scalar_type() == at::kDouble ? at::kDouble : at::kFloat);
}

Rows read_tables(const std::string& option, const std::vector<std::string>& paths, const Options& options) {
  Rows rows;
  for (const auto& path : paths) {
    const auto values = examples::ending_of(path) == ".safetensors" ? read_tensor(option, path, options.tensor)
                                                                    : read_csv(option, path, options.labelled);
    if (rows.values.defined() && values.size(1) != rows.values.size(1)) {
      throw UsageError{fmt::format("{}: expected the same number of features in all files, got {} in {} and {} in {}",
                                   option, rows.values.size(1), examples::quote(paths.front()), values.size(1),
                                   examples::quote(path))};
    }
    rows.values = rows.values.defined() ? at::cat({rows.values, values}) : values;
  }
  rows.source = examples::joined(paths);
  return rows;
}

Rows read_rows(const std::string& option, const std::vector<std::string>& paths, const Options& options) {
  const auto pictures = std::count_if(paths.begin(), paths.end(), is_picture);
  if (pictures == 0) return read_tables(option, paths, options);
  if (pictures != static_cast<int64_t>(paths.size())) {
    const auto table = std::find_if_not(paths.begin(), paths.end(), is_picture);
    throw UsageError{fmt::format("{}: expected either images or tables, got the table {} among images", option,
                                 examples::quote(*table))};
  }
  auto read = examples::read_pictures(option, paths, options.size);
  return {read.images.flatten(1).contiguous(), std::move(read.names), std::move(read.source)};
}

Rows digits() {
  constexpr double kMostInk = 16;
  const auto path = examples::digits_path("--patterns", "digits");
  const auto digits = reading("--patterns", [&] { return examples::digits(path); });
  return {digits.images.flatten(1) * kMostInk, {}, "digits"};
}

void normalize(const std::string& option, Rows& rows, const Options& options) {
  auto& values = rows.values;
  if (!at::isfinite(values).all().item<bool>()) {
    throw UsageError{fmt::format("{}: expected finite numbers, got {} that are NaN or infinite", option,
                                 at::isfinite(values).logical_not().sum().item<int64_t>())};
  }
  if (options.normalize == "layer") values = at::layer_norm(values, {values.size(1)});
  if (options.normalize != "unit") return;
  const auto norms = values.norm(2, 1, /*keepdim=*/true);
  if ((norms == 0).any().item<bool>()) {
    throw UsageError{fmt::format("--normalize unit: expected rows that are not all zeros, got row {} of {}",
                                 (norms == 0).squeeze(1).nonzero()[0].item<int64_t>() + 1, rows.source)};
  }
  values = values / norms;
}

}  // namespace

Rows read_patterns(const Options& options) {
  auto rows = options.patterns.empty() ? digits() : read_rows("--patterns", options.patterns, options);
  if (options.count > rows.values.size(0)) {
    throw UsageError{fmt::format("--count: expected at most {}, the number of patterns, got {}", rows.values.size(0),
                                 options.count)};
  }
  if (options.count > 0) {
    rows.values = rows.values.narrow(0, 0, options.count);
    if (!rows.names.empty()) rows.names.resize(static_cast<size_t>(options.count));
  }
  normalize("--patterns", rows, options);
  return rows;
}

Rows read_queries(const Rows& patterns, const Options& options) {
  Rows queries;
  const auto width = patterns.values.size(1);
  if (options.queries.empty()) {
    constexpr int64_t kMost = 1000;
    const auto count = patterns.values.size(0), chosen = std::min(count, kMost);
    queries.values = patterns.values.index_select(0, (at::arange(chosen, at::kLong) * count).floor_divide_(chosen));
    queries.source = "the patterns";
  } else {
    queries = read_rows("--queries", options.queries, options);
    if (queries.values.size(1) != width) {
      throw UsageError{fmt::format("--queries: expected the {} features of the patterns, got {} in {}", width,
                                   queries.values.size(1), queries.source)};
    }
    normalize("--queries", queries, options);
    queries.values = queries.values.to(patterns.values.scalar_type());
  }
  if (options.noise > 0) {
    auto generator = at::make_generator<at::CPUGeneratorImpl>(options.seed);
    queries.values =
        queries.values + options.noise * at::randn(queries.values.sizes(), generator, queries.values.options());
  }
  return queries;
}

}  // namespace hopfield::theory_report
