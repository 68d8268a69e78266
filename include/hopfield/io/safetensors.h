#pragma once

#include <ATen/core/Tensor.h>
#include <torch/ordered_dict.h>

#include <map>
#include <string>

namespace hopfield::io {

/// Tensors by name, in order: the type that torch::nn::Module::named_parameters() returns.
using TensorDict = torch::OrderedDict<std::string, at::Tensor>;

/// Texts that a file holds beside its tensors, by key.
using Metadata = std::map<std::string, std::string>;

/// The content of a safetensors file.
struct SafetensorsFile {
  TensorDict tensors;  ///< on the CPU, contiguous, each owning its memory; in the order of their bytes in the file
  Metadata metadata;
};

/// Reads a file in the safetensors format.
///
///     auto file = hopfield::io::load_safetensors("model.safetensors");
///     auto weight = file.tensors["lookup.weight"];
///
/// The file is not trusted: its header is checked completely, against the format and against the size of the file,
/// before memory for tensors is allocated. The supported types are BOOL, U8 to U64, I8 to I64, F16, BF16, F32, F64, C64
/// and the 8-bit floats.
///
/// Some files that no writer produces are refused here although the Python package reads them: those with a repeated
/// name, with a repeated or unknown field, with a BOOL other than the bytes 0 and 1, with a tensor of more than 64
/// dimensions, or with a tensor whose dimensions other than 0 have a product of more than 63 bits.
///
/// @throws c10::Error naming the file, the tensor or the position in the file, what was expected and what came.
SafetensorsFile load_safetensors(const std::string& path);

/// Writes a file in the safetensors format. The same tensors and metadata always give the same bytes.
///
///     hopfield::io::save_safetensors("model.safetensors", model->named_parameters(), {{"license", "MIT"}});
///
/// The file is replaced as a whole or not at all, as by write_file(). A process that is killed can leave a file
/// "<name>.<process>-<number>.tmp" beside it, which may be deleted.
///
/// @throws c10::Error if a tensor is undefined, not dense, or of a type that the format lacks; if a name or a text is
/// not valid UTF-8; or if the file cannot be written.
void save_safetensors(const std::string& path, const TensorDict& tensors, const Metadata& metadata = {});

}  // namespace hopfield::io
