#include "run_checkpoint.h"

#include "options.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <charconv>

namespace hopfield::mil {
namespace {

constexpr auto kDescriptionKey = "hopfield_mil.run";
constexpr double kSecondsBetweenWrites = 5;

/// Names and metadata keys of fold 3 begin with "fold.3.".
std::string prefix_of(int64_t fold) { return "fold." + std::to_string(fold) + "."; }

/// Splits "fold.3.rest" into 3 and "rest".
std::pair<int64_t, std::string> split_name(const std::string& name, const std::string& path) {
  constexpr size_t kBegin = 5;  // behind "fold."
  int64_t fold = -1;
  const auto dot = name.find('.', kBegin);
  const bool fits = name.rfind("fold.", 0) == 0 && dot != std::string::npos &&
                    std::from_chars(name.data() + kBegin, name.data() + dot, fold).ptr == name.data() + dot &&
                    fold >= 0;
  if (!fits)
    throw UsageError{"--resume: expected a checkpoint in '" + path + "', got a file with an entry '" + name + "'"};
  return {fold, name.substr(dot + 1)};
}

/// Which options differ, for a sentence.
std::string difference(const std::string& ours, const std::string& theirs) {
  const auto a = nlohmann::json::parse(ours), b = nlohmann::json::parse(theirs, nullptr, /*allow_exceptions=*/false);
  if (!b.is_object()) return "it describes no run";
  for (const auto& [key, value] : a.items()) {
    if (!b.contains(key) || b[key] != value) {
      return fmt::format("{} is {} there and {} here", key, b.contains(key) ? b[key].dump() : "missing", value.dump());
    }
  }
  return "it describes more than this run";
}

}  // namespace

void RunCheckpoint::load() {
  const auto file = reading([&] { return io::load_safetensors(path_); });
  const auto description = file.metadata.find(kDescriptionKey);
  if (description == file.metadata.end()) {
    throw UsageError{"--resume: expected a checkpoint written by --checkpoint, got '" + path_ +
                     "', which is another file"};
  }
  if (description->second != description_) {
    throw UsageError{"--resume: expected a checkpoint of this run, got '" + path_ +
                     "': " + difference(description_, description->second)};
  }
  for (const auto& entry : file.tensors) {
    const auto [fold, name] = split_name(entry.key(), path_);
    folds_[fold].tensors.insert(name, entry.value());
  }
  for (const auto& [key, value] : file.metadata) {
    if (key == kDescriptionKey) continue;
    const auto [fold, name] = split_name(key, path_);
    folds_[fold].metadata[name] = value;
  }
}

const io::SafetensorsFile* RunCheckpoint::find(int64_t fold) const {
  const auto entry = folds_.find(fold);
  return entry == folds_.end() ? nullptr : &entry->second;
}

void RunCheckpoint::update(int64_t fold, io::SafetensorsFile state) {
  if (!enabled()) return;
  const std::lock_guard<std::mutex> lock(mutex_);
  folds_[fold] = std::move(state);
  if (since_write_.seconds() - written_at_ >= kSecondsBetweenWrites) write_locked();
}

void RunCheckpoint::write() {
  if (!enabled()) return;
  const std::lock_guard<std::mutex> lock(mutex_);
  write_locked();
}

void RunCheckpoint::write_locked() {
  io::TensorDict tensors;
  io::Metadata metadata{{kDescriptionKey, description_}};
  for (const auto& [fold, state] : folds_) {
    for (const auto& entry : state.tensors) tensors.insert(prefix_of(fold) + entry.key(), entry.value());
    for (const auto& [key, value] : state.metadata) metadata[prefix_of(fold) + key] = value;
  }
  io::save_safetensors(path_, tensors, metadata);
  written_at_ = since_write_.seconds();
}

}  // namespace hopfield::mil
