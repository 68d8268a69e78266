#pragma once

#include <ATen/core/Tensor.h>
#include <torch/ordered_dict.h>

#include <map>
#include <string>

namespace hopfield::io {

/// Tensors by name, in order: what torch::nn::Module::named_parameters() returns.
using TensorDict = torch::OrderedDict<std::string, at::Tensor>;

/// Free text beside the tensors of a file.
using Metadata = std::map<std::string, std::string>;

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
/// before any memory is taken for tensors. Types: BOOL, U8 to U64, I8 to I64, F16, BF16, F32, F64, C64 and the 8-bit
/// floats.
///
/// Stricter than the Python package in what no writer does: names and fields may not repeat or be unknown, a BOOL is
/// the byte 0 or 1, a tensor has at most 64 dimensions, and their product leaving out zeros fits 63 bits.
///
/// @throws c10::Error naming the file, the tensor or the position in the file, what was expected and what came.
SafetensorsFile load_safetensors(const std::string& path);

/// Writes a file in the safetensors format, with the same bytes for the same tensors.
///
///     hopfield::io::save_safetensors("model.safetensors", model->named_parameters(), {{"license", "MIT"}});
///
/// The file is replaced as a whole: a failure, a kill or a loss of power leaves the previous file or the new one. A
/// process that is killed can leave a file "<name>.<process>-<number>.tmp" beside it, which may be deleted.
///
/// @throws c10::Error if a tensor is undefined, not dense, or of a type that the format lacks; if a name or text is not
/// valid UTF-8; or if the file cannot be written.
void save_safetensors(const std::string& path, const TensorDict& tensors, const Metadata& metadata = {});

}  // namespace hopfield::io
