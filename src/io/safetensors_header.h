#pragma once

#include <hopfield/io/safetensors.h>

#include <c10/core/ScalarType.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace hopfield::io::detail {

/// Longest header, in bytes: the Python package's limit.
constexpr uint64_t kMaxHeaderBytes = 100'000'000;

/// Most dimensions of a tensor: what ATen's iterators can walk over.
constexpr size_t kMaxDimensions = 64;

/// One tensor as the header describes it; `begin` and `end` count bytes from the end of the header.
struct TensorEntry {
  std::string name;
  at::ScalarType dtype = at::ScalarType::Undefined;
  std::vector<int64_t> shape;
  uint64_t begin = 0;
  uint64_t end = 0;
};

struct SafetensorsHeader {
  std::vector<TensorEntry> tensors;  ///< in the order of their bytes, which they cover without overlap or hole
  Metadata metadata;
};

/// Place of a type in the format's order, by which Python's writer sorts: small items first. Nothing if it has no name.
std::optional<size_t> dtype_rank(at::ScalarType dtype);

/// The types that the format and LibTorch share, for error messages.
std::string supported_dtypes();

/// Size of a tensor; nothing if the product of the sizes that are not 0 exceeds 63 bits.
std::optional<uint64_t> byte_size(const std::vector<int64_t>& shape, at::ScalarType dtype);

/// @param json header without its length @param data_bytes bytes of the file after the header
/// @throws c10::Error beginning with `where` unless it describes exactly these bytes.
SafetensorsHeader parse_header(const std::string& json, uint64_t data_bytes, const std::string& where);

/// The JSON, padded with spaces to a multiple of 8 bytes. @throws c10::Error beginning with `where` if a name or a text
/// is not valid UTF-8.
std::string format_header(const SafetensorsHeader& header, const std::string& where);

/// A name in quotes for an error message: shortened if very long, with ? for control characters.
std::string quote(const std::string& name);

}  // namespace hopfield::io::detail
