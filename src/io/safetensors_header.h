#pragma once

#include <hopfield/io/safetensors.h>

#include <c10/core/ScalarType.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace hopfield::io::detail {

/// The longest header in bytes. The Python package has the same limit.
constexpr uint64_t kMaxHeaderBytes = 100'000'000;

/// The most dimensions of a tensor. ATen's iterators support no more.
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
  std::vector<TensorEntry> tensors;  ///< in the order of their bytes, without overlaps and holes
  Metadata metadata;
};

/// The rank of a type in the order of the format, small elements first, by which Python's writer sorts. Nothing if the
/// format does not have the type.
std::optional<size_t> dtype_rank(at::ScalarType dtype);

/// The types that the format and LibTorch share, for error messages.
std::string supported_dtypes();

/// The size of a tensor in bytes. Nothing if the product of all sizes other than 0 exceeds 63 bits.
std::optional<uint64_t> byte_size(const std::vector<int64_t>& shape, at::ScalarType dtype);

/// @param json        the header, without the length before it
/// @param data_bytes  the number of bytes in the file after the header
/// @param where       begins the error messages
/// @throws c10::Error unless the header is valid and describes exactly these bytes.
SafetensorsHeader parse_header(const std::string& json, uint64_t data_bytes, const std::string& where);

/// The header as JSON, padded with spaces to a multiple of 8 bytes.
/// @param where  begins the error messages
/// @throws c10::Error if a name or a text is not valid UTF-8.
std::string format_header(const SafetensorsHeader& header, const std::string& where);

/// A name in quotes for an error message: shortened if it is very long, and with ? for control characters.
std::string quote(const std::string& name);

}  // namespace hopfield::io::detail
