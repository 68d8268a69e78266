#pragma once

#include <hopfield/core/ode.h>
#include <hopfield/io/safetensors.h>

#include <c10/util/ArrayRef.h>

#include <cstdint>
#include <string>

/// What the files of all memories have in common. Options are texts of the metadata, under the names they have in code.
namespace hopfield::memory::detail {

/// A file that is read, and what error messages need to know of it.
struct MemoryFile {
  std::string path;
  io::SafetensorsFile content;

  /// @throws c10::Error if the file lacks it, or has another number of dimensions.
  at::Tensor tensor(const std::string& name, int64_t dimensions) const;
  /// @throws c10::Error if the file lacks it.
  const std::string& text(const std::string& name) const;
  /// @throws c10::Error if the file lacks it, or if it is not a finite number.
  double number(const std::string& name) const;
  /// Which of the choices a text is.
  /// @throws c10::Error if the file lacks it, or if it is none of them.
  int64_t choice(const std::string& name, c10::ArrayRef<const char*> choices) const;
  /// What write_ode() wrote.
  /// @throws c10::Error if the file lacks it.
  core::OdeOptions ode() const;
};

/// Writes options of an integration, which MemoryFile::ode() reads.
void write_ode(const core::OdeOptions& options, io::SafetensorsFile& file);

/// A number as a text that gives the same number when it is read.
std::string text_of(double number);

}  // namespace hopfield::memory::detail
