#pragma once

#include "memories.h"
#include "pictures.h"

#include <nlohmann/json_fwd.hpp>

#include <memory>
#include <string>
#include <vector>

namespace hopfield::image_memory {

/// A memory of images, and what makes images of its patterns.
struct ImageMemory {
  std::unique_ptr<memory::Memory> memory;
  MemoryOptions options;  // completed()
  ImageFormat format;
  std::vector<std::string> names;  // of the patterns
  std::string source;              // where the images came from

  /// The stored images [n, height, width, channels].
  at::Tensor images() const { return format.images_of(memory->patterns()); }
};

/// Stores pictures. @throws c10::Error if the memory refuses them
ImageMemory make_image_memory(const Pictures& pictures, const std::optional<double>& threshold,
                              const MemoryOptions& options);

/// Pictures that are small enough for a memory with a weight for every two pixels: at most 64x64 grey ones.
/// @param remark  gets a sentence if they had to be made smaller
Pictures fitted(Pictures pictures, std::string& remark);

/// Writes the memory with Memory::save(). What else belongs to it goes along as JSON in Memory::metadata().
void save(const ImageMemory& stored, const std::string& path);
/// @throws UsageError if the file is not one that save() wrote
ImageMemory load(const std::string& path, const std::string& device);

/// What kind of memory it is, its options, its images and their format. For reports.
nlohmann::ordered_json json_of(const ImageMemory& stored);
nlohmann::ordered_json json_of(const MemoryOptions& options);

/// "continuous (similarity euclidean, beta 256): 1797 images of 8x8 grey from digits"
std::string text_of(const ImageMemory& stored);

}  // namespace hopfield::image_memory
