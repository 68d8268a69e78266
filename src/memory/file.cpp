#include "memory/file.h"

#include <hopfield/memory/binary.h>
#include <hopfield/memory/continuous.h>
#include <hopfield/memory/exponential.h>
#include <hopfield/memory/graded.h>
#include <hopfield/memory/kernel.h>
#include <hopfield/memory/lagrangian.h>
#include <hopfield/memory/memory.h>
#include <hopfield/memory/polynomial.h>

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>

namespace hopfield::memory {
namespace {

constexpr const char* kKindKey = "hopfield.memory";
constexpr const char* kVersionKey = "hopfield.memory.version";
constexpr const char* kVersion = "1";
// Before the keys of the caller's texts, which could else be those of options.
const std::string kCallersPrefix = "user.";

/// A kind of memory, and the function that makes one from a file.
struct Kind {
  const char* name;
  std::unique_ptr<Memory> (*read)(const detail::MemoryFile& file);
};

/// The texts of a file that set_metadata() put there.
io::Metadata callers_texts(const io::Metadata& metadata) {
  io::Metadata texts;
  for (const auto& [key, value] : metadata) {
    if (key.rfind(kCallersPrefix, 0) == 0) texts[key.substr(kCallersPrefix.size())] = value;
  }
  return texts;
}

constexpr Kind kKinds[] = {
    {"BinaryNetwork", BinaryNetwork::read},         {"ContinuousMemory", ContinuousMemory::read},
    {"ExponentialMemory", ExponentialMemory::read}, {"GradedNetwork", GradedNetwork::read},
    {"KernelMemory", KernelMemory::read},           {"LagrangianMemory", LagrangianMemory::read},
    {"PolynomialMemory", PolynomialMemory::read},
};

}  // namespace

namespace detail {

at::Tensor MemoryFile::tensor(const std::string& name, int64_t dimensions) const {
  const auto* found = content.tensors.find(name);
  TORCH_CHECK(found != nullptr, "hopfield::memory::load: expected a tensor '", name, "' in ", path, ", found none");
  TORCH_CHECK(found->dim() == dimensions, "hopfield::memory::load: expected '", name, "' in ", path, " to have ",
              dimensions, " dimensions, got ", found->sizes());
  return *found;
}

const std::string& MemoryFile::text(const std::string& name) const {
  const auto found = content.metadata.find(name);
  TORCH_CHECK(found != content.metadata.end(), "hopfield::memory::load: expected the metadata of ", path, " to have '",
              name, "', found none");
  return found->second;
}

double MemoryFile::number(const std::string& name) const {
  const auto& value = text(name);
  char* end = nullptr;
  const auto result = std::strtod(value.c_str(), &end);
  TORCH_CHECK(!value.empty() && *end == '\0' && std::isfinite(result), "hopfield::memory::load: expected '", name,
              "' in the metadata of ", path, " to be a finite number, got '", value, "'");
  return result;
}

int64_t MemoryFile::choice(const std::string& name, c10::ArrayRef<const char*> choices) const {
  const auto& value = text(name);
  const auto found = std::find(choices.begin(), choices.end(), value);
  TORCH_CHECK(found != choices.end(), "hopfield::memory::load: expected '", name, "' in the metadata of ", path,
              " to be one of ", c10::Join(", ", choices), ", got '", value, "'");
  return found - choices.begin();
}

core::OdeOptions MemoryFile::ode() const {
  const auto has = [&](const char* name) { return content.metadata.count(name) > 0; };
  core::OdeOptions options;
  options.rtol(number("ode.rtol")).atol(number("ode.atol"));
  options.steps_max(static_cast<int64_t>(number("ode.steps_max")));
  if (has("ode.first_step")) options.first_step(number("ode.first_step"));
  if (has("ode.max_step")) options.max_step(number("ode.max_step"));
  return options;
}

void write_ode(const core::OdeOptions& options, io::SafetensorsFile& file) {
  file.metadata["ode.rtol"] = text_of(options.rtol());
  file.metadata["ode.atol"] = text_of(options.atol());
  file.metadata["ode.steps_max"] = std::to_string(options.steps_max());
  if (options.first_step()) file.metadata["ode.first_step"] = text_of(*options.first_step());
  if (std::isfinite(options.max_step())) file.metadata["ode.max_step"] = text_of(options.max_step());
}

std::string text_of(double number) {
  char buffer[32];
  std::snprintf(buffer, sizeof buffer, "%.17g", number);
  return buffer;
}

}  // namespace detail

void Memory::save(const std::string& path) const {
  io::SafetensorsFile file;
  file.metadata = {{kKindKey, kind()}, {kVersionKey, kVersion}};
  for (const auto& [key, value] : metadata_) file.metadata[kCallersPrefix + key] = value;
  file.tensors.insert("patterns", patterns());
  write(file);
  io::save_safetensors(path, file.tensors, file.metadata);
}

std::unique_ptr<Memory> load(const std::string& path, at::Device device) {
  detail::MemoryFile file{path, io::load_safetensors(path)};
  const auto found = file.content.metadata.find(kKindKey);
  TORCH_CHECK(found != file.content.metadata.end(), "hopfield::memory::load: expected ", path,
              " to be a memory that Memory::save() wrote, got a file whose metadata have no '", kKindKey, "'");
  TORCH_CHECK(file.text(kVersionKey) == kVersion, "hopfield::memory::load: expected ", path, " to have the version ",
              kVersion, ", got ", file.text(kVersionKey), "; a later version of this library may read it");
  for (auto& entry : file.content.tensors) entry.value() = entry.value().to(device);
  std::string known;
  for (const auto& kind : kKinds) {
    if (found->second == kind.name) {
      auto memory = kind.read(file);
      memory->set_metadata(callers_texts(file.content.metadata));
      return memory;
    }
    known += (known.empty() ? "" : ", ") + std::string(kind.name);
  }
  TORCH_CHECK(false, "hopfield::memory::load: expected ", path, " to be one of ", known, ", got '", found->second, "'");
}

}  // namespace hopfield::memory
