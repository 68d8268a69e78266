#include "run_checkpoint.h"

#include "digest.h"
#include "errors.h"
#include "options.h"
#include "text.h"

#include <ATen/ATen.h>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <charconv>
#include <filesystem>
#include <system_error>

namespace hopfield::examples {
namespace {

constexpr auto kProgramKey = "run.program", kVersionKey = "run.version", kDescriptionKey = "run.description",
               kDigestKey = "run.digest";
constexpr int kVersion = 2;
constexpr double kSecondsToFirstWrite = 2, kSecondsBetweenWrites = 5;

[[noreturn]] void refuse(const std::string& path, const std::string& got) {
  throw UsageError{"--resume: expected a checkpoint of this run in " + quote(path) + ", got " + got};
}

/// Names and metadata keys of part 3 begin with "part.3.".
std::string prefix_of(int64_t part) { return "part." + std::to_string(part) + "."; }

/// Splits "part.3.rest" into 3 and "rest".
std::pair<int64_t, std::string> split_name(const std::string& name, const std::string& path) {
  constexpr size_t kBegin = 5;  // length of "part."
  int64_t part = -1;
  const auto dot = name.find('.', kBegin);
  const bool fits = name.rfind("part.", 0) == 0 && dot != std::string::npos &&
                    std::from_chars(name.data() + kBegin, name.data() + dot, part).ptr == name.data() + dot &&
                    part >= 0;
  if (!fits) refuse(path, "a file with an entry " + quote(name));
  return {part, name.substr(dot + 1)};
}

/// The options in which two descriptions of runs differ, as the end of a sentence.
std::string difference(const std::string& ours, const std::string& theirs) {
  const auto here = nlohmann::ordered_json::parse(ours);
  const auto there = nlohmann::ordered_json::parse(theirs, nullptr, /*allow_exceptions=*/false);
  if (!there.is_object()) return "one that describes no run";
  std::string text;
  for (const auto& [key, value] : here.items()) {
    const auto other = there.find(key);
    if (other != there.end() && *other == value) continue;
    text += fmt::format("{}{} is {} there and {} here", text.empty() ? "another: " : ", ", key,
                        other == there.end() ? "missing" : other->dump(), value.dump());
  }
  return text.empty() ? "one that describes more than this run" : text;
}

/// The digest of all names, types, shapes and bytes of tensors, and of the metadata other than the digest itself.
std::string digest_of(const io::TensorDict& tensors, const io::Metadata& metadata) {
  Digest digest;
  std::map<std::string, at::Tensor> sorted;
  for (const auto& entry : tensors) sorted.emplace(entry.key(), entry.value());
  for (const auto& [name, value] : sorted) {
    const auto tensor = value.to(at::kCPU).contiguous();
    digest.add(name);
    digest.add(c10::str(tensor.scalar_type(), tensor.sizes()));
    digest.add(tensor.const_data_ptr(), tensor.nbytes());
  }
  for (const auto& [key, value] : metadata) {
    if (key == kDigestKey) continue;
    digest.add(key);
    digest.add(value);
  }
  return digest.text();
}

std::string value_of(const io::Metadata& metadata, const char* key) {
  const auto found = metadata.find(key);
  return found == metadata.end() ? "" : found->second;
}

/// Checks program, version and digest of a checkpoint before its content is used.
void check_file(const io::SafetensorsFile& file, const std::string& program, const std::string& path) {
  const auto written_by = value_of(file.metadata, kProgramKey), version = value_of(file.metadata, kVersionKey);
  if (written_by.empty()) refuse(path, "a file that --checkpoint of this version of " + program + " did not write");
  if (written_by != program) refuse(path, "one of the program " + quote(written_by));
  if (version != std::to_string(kVersion)) {
    refuse(path, fmt::format("one of format {}, where this version of {} knows format {}", quote(version), program,
                             kVersion));
  }
  if (value_of(file.metadata, kDigestKey) != digest_of(file.tensors, file.metadata)) {
    refuse(path, "a damaged file: its content does not have the digest that it names");
  }
}

}  // namespace

void add_checkpoint_options(CLI::App& app, CheckpointOptions& options) {
  add_file(app, "--checkpoint", options.path,
           "File that keeps the state of the run, written every few seconds and when it is interrupted");
  app.add_flag("--resume", options.resume, "Go on from the checkpoint");
  app.add_flag("--overwrite", options.overwrite, "Begin anew although the checkpoint exists");
}

RunCheckpoint::RunCheckpoint(std::string program, CheckpointOptions options)
    : program_(std::move(program)), options_(std::move(options)) {
  if (options_.resume && options_.overwrite) throw UsageError{"--overwrite: expected no --resume beside it, got both"};
  if (!enabled()) {
    if (options_.resume) throw UsageError{"--resume: expected --checkpoint FILE to resume from, got none"};
    if (options_.overwrite) throw UsageError{"--overwrite: expected --checkpoint FILE to begin anew, got none"};
    return;
  }
  file_lock_.emplace("--checkpoint", options_.path);
  std::error_code error;
  if (!options_.resume && !options_.overwrite && std::filesystem::exists(options_.path, error)) {
    throw UsageError{"--checkpoint: expected a file that does not exist yet, got " + quote(options_.path) +
                     "; go on from it with --resume, or begin anew with --overwrite"};
  }
}

void RunCheckpoint::begin(const std::string& description) {
  description_ = description;
  if (options_.resume) load();
}

void RunCheckpoint::load() {
  const auto file = reading("--resume", [&] { return io::load_safetensors(path()); });
  check_file(file, program_, path());
  const auto theirs = value_of(file.metadata, kDescriptionKey);
  if (theirs != description_) refuse(path(), difference(description_, theirs));
  for (const auto& entry : file.tensors) {
    const auto [part, name] = split_name(entry.key(), path());
    parts_[part].tensors.insert(name, entry.value());
  }
  for (const auto& [key, value] : file.metadata) {
    if (key == kProgramKey || key == kVersionKey || key == kDescriptionKey || key == kDigestKey) continue;
    const auto [part, name] = split_name(key, path());
    parts_[part].metadata[name] = value;
  }
}

const io::SafetensorsFile* RunCheckpoint::find(int64_t part) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto entry = parts_.find(part);
  return entry == parts_.end() ? nullptr : &entry->second;
}

std::string RunCheckpoint::update(int64_t part, io::SafetensorsFile state, bool is_finished) {
  if (!enabled()) return "";
  const std::lock_guard<std::mutex> lock(mutex_);
  parts_[part] = std::move(state);
  const auto now = watch_.seconds();
  const bool is_time =
      tried_at_ ? now - *tried_at_ >= kSecondsBetweenWrites : is_finished || now >= kSecondsToFirstWrite;
  if (!is_time) return "";
  const auto before = failure_;
  const auto failure = write_locked();
  return failure == before ? "" : failure;
}

std::string RunCheckpoint::write() {
  if (!enabled()) return "";
  const std::lock_guard<std::mutex> lock(mutex_);
  return write_locked();
}

std::string RunCheckpoint::write_locked() {
  io::TensorDict tensors;
  io::Metadata metadata{
      {kProgramKey, program_}, {kVersionKey, std::to_string(kVersion)}, {kDescriptionKey, description_}};
  for (const auto& [part, state] : parts_) {
    for (const auto& entry : state.tensors) tensors.insert(prefix_of(part) + entry.key(), entry.value());
    for (const auto& [key, value] : state.metadata) metadata[prefix_of(part) + key] = value;
  }
  metadata[kDigestKey] = digest_of(tensors, metadata);
  try {
    io::save_safetensors(path(), tensors, metadata);
    failure_.clear();
  } catch (const c10::Error& error) {
    failure_ = plain_message(error);
  }
  tried_at_ = watch_.seconds();
  return failure_;
}

}  // namespace hopfield::examples
