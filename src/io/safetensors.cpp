#include "io/file.h"
#include "io/safetensors_header.h"
#include <hopfield/io/safetensors.h>

#include <ATen/ATen.h>

#include <algorithm>
#include <utility>

namespace hopfield::io {
namespace {

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the format stores numbers with their lowest byte first");

using detail::quote;

/// Checks that a tensor of bools holds the bytes 0 and 1 only: any other value of a C++ bool is undefined behaviour.
void check_bools(const at::Tensor& tensor, const detail::TensorEntry& entry, uint64_t data_start,
                 const std::string& where) {
  if (tensor.scalar_type() != at::kBool) return;
  const auto* begin = static_cast<const uint8_t*>(tensor.const_data_ptr());
  const auto* end = begin + tensor.numel();
  const auto* wrong = std::find_if(begin, end, [](uint8_t byte) { return byte > 1; });
  TORCH_CHECK(wrong == end, where, "expected tensor ", quote(entry.name),
              " of type BOOL to hold the bytes 0 and 1, got ", static_cast<int>(*wrong), " at byte ",
              data_start + entry.begin + static_cast<uint64_t>(wrong - begin), " of the file");
}

std::string read_header_text(detail::InputFile& file, const std::string& where) {
  uint64_t length = 0;
  TORCH_CHECK(file.size() >= sizeof(length), where, "expected at least 8 bytes, got ", file.size());
  file.read(&length, sizeof(length));
  TORCH_CHECK(length <= detail::kMaxHeaderBytes, where, "expected a header of at most ", detail::kMaxHeaderBytes,
              " bytes, got ", length, " at byte 0 of the file; it is not a safetensors file");
  TORCH_CHECK(length <= file.size() - sizeof(length), where, "expected a header of ", length, " bytes, got ",
              file.size() - sizeof(length),
              " bytes up to the end of the file; it is truncated, or not a safetensors file");
  std::string text(length, '\0');
  file.read(text.data(), length);
  return text;
}

detail::TensorEntry describe(const std::string& name, const at::Tensor& tensor, const std::string& where) {
  TORCH_CHECK(tensor.defined(), where, "expected tensor ", quote(name), " to be defined");
  TORCH_CHECK(tensor.layout() == at::kStrided && !tensor.is_meta(), where, "expected tensor ", quote(name),
              " to be dense and to have data, got layout ", tensor.layout(), " on ", tensor.device());
  TORCH_CHECK(detail::dtype_rank(tensor.scalar_type()), where, "expected tensor ", quote(name),
              " to have one of the types ", detail::supported_dtypes(), ", got ", tensor.scalar_type());
  detail::TensorEntry entry{name, tensor.scalar_type(), tensor.sizes().vec(), 0, 0};
  TORCH_CHECK(entry.shape.size() <= detail::kMaxDimensions && detail::byte_size(entry.shape, entry.dtype), where,
              "expected tensor ", quote(name), " to have at most ", detail::kMaxDimensions,
              " dimensions and fewer than 2^63 bytes, got ", tensor.sizes());
  return entry;
}

/// The header of a file, with the tensors in the order of Python's writer: larger element types first, then by name.
detail::SafetensorsHeader lay_out(const TensorDict& tensors, const Metadata& metadata, const std::string& where) {
  detail::SafetensorsHeader header{{}, metadata};
  header.tensors.reserve(tensors.size());
  for (const auto& item : tensors) header.tensors.push_back(describe(item.key(), item.value(), where));
  std::sort(header.tensors.begin(), header.tensors.end(), [](const auto& a, const auto& b) {
    const auto rank_a = detail::dtype_rank(a.dtype), rank_b = detail::dtype_rank(b.dtype);
    return rank_a != rank_b ? rank_a > rank_b : a.name < b.name;
  });
  uint64_t offset = 0;
  for (auto& entry : header.tensors) {
    entry.begin = offset;
    offset += detail::byte_size(entry.shape, entry.dtype).value();
    entry.end = offset;
  }
  return header;
}

}  // namespace

SafetensorsFile load_safetensors(const std::string& path) {
  const auto where = "hopfield::io::load_safetensors: '" + path + "': ";
  detail::InputFile file(path);
  const auto text = read_header_text(file, where);
  const auto data_start = sizeof(uint64_t) + text.size();
  auto header = detail::parse_header(text, file.size() - data_start, where);
  SafetensorsFile result;
  result.metadata = std::move(header.metadata);
  result.tensors.reserve(header.tensors.size());
  for (const auto& entry : header.tensors) {
    auto tensor = at::empty(entry.shape, at::TensorOptions(entry.dtype).device(at::kCPU));
    file.read(tensor.mutable_data_ptr(), entry.end - entry.begin);
    check_bools(tensor, entry, data_start, where);
    result.tensors.insert(entry.name, std::move(tensor));
  }
  return result;
}

void save_safetensors(const std::string& path, const TensorDict& tensors, const Metadata& metadata) {
  const auto where = "hopfield::io::save_safetensors: '" + path + "': ";
  const auto header = lay_out(tensors, metadata, where);
  const auto text = detail::format_header(header, where);
  TORCH_CHECK(text.size() <= detail::kMaxHeaderBytes, where, "expected names and metadata to need at most ",
              detail::kMaxHeaderBytes, " bytes, got ", text.size());
  detail::write_atomically(path, [&](detail::OutputFile& file) {
    const uint64_t length = text.size();
    file.write(&length, sizeof(length));
    file.write(text.data(), length);
    for (const auto& entry : header.tensors) {
      const auto& tensor = tensors[entry.name];
      const auto bytes = tensor.detach().to(at::kCPU).resolve_conj().resolve_neg().contiguous();
      file.write(bytes.const_data_ptr(), entry.end - entry.begin);
    }
  });
}

}  // namespace hopfield::io
