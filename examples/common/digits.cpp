#include "digits.h"

#include "errors.h"
#include "text.h"
#include <hopfield/data/csv.h>

#include <ATen/ATen.h>

#include <cstdlib>
#include <filesystem>

namespace hopfield::examples {

namespace fs = std::filesystem;

std::string digits_path(const std::string& option, const std::string& name_or_path) {
  std::error_code error;
  if (name_or_path != "digits" && fs::exists(name_or_path, error)) return name_or_path;
  const char* given = std::getenv("HOPFIELD_DATA");
  const auto file = (given != nullptr ? fs::path(given) : fs::path(HOPFIELD_DATA_DIR)) / "digits.csv";
  if (name_or_path != "digits") {
    throw UsageError{option + ": expected a CSV file or 'digits', got " + quote(name_or_path) +
                     ", which does not exist"};
  }
  if (fs::exists(file, error)) return file.string();
  throw UsageError{option + ": expected the digits in " + quote(file.string()) +
                   ", got nothing there; scripts/bootstrap.sh --tests puts them there, and the environment variable "
                   "HOPFIELD_DATA may name another folder"};
}

Digits digits(const std::string& path) {
  constexpr int64_t kSide = 8, kPixels = kSide * kSide, kMostInk = 16;
  const auto table = data::read_table_csv(path);
  TORCH_CHECK(table.features.size(0) > 0 && table.features.size(1) == kPixels,
              "hopfield::examples::digits: expected rows of ", kPixels, " pixels and a label, got ",
              table.features.size(0), " rows of ", table.features.size(1), " pixels and a label in ", quote(path));
  const auto wrong_pixels = at::logical_not(at::logical_and(table.features >= 0, table.features <= kMostInk));
  TORCH_CHECK(!wrong_pixels.any().item<bool>(), "hopfield::examples::digits: expected pixels from 0 to ", kMostInk,
              ", got ", table.features.masked_select(wrong_pixels)[0].item<float>(), " in ", quote(path));
  const auto labels = table.labels.to(at::kLong);
  const auto wrong_labels = at::logical_or(labels != table.labels, at::logical_or(table.labels<0, table.labels> 9));
  TORCH_CHECK(!wrong_labels.any().item<bool>(), "hopfield::examples::digits: expected labels from 0 to 9, got ",
              table.labels.masked_select(wrong_labels)[0].item<double>(), " in ", quote(path));
  return {table.features.view({-1, kSide, kSide}) / kMostInk, labels};
}

}  // namespace hopfield::examples
