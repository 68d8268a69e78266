#pragma once

#include <hopfield/hopfield.h>

#include <torch/torch.h>

#include <filesystem>
#include <map>
#include <string>
#include <variant>
#include <vector>

namespace hopfield::parity {

/// One call of a module of the Python package hflayers, with its arguments and its results in float64.
struct GoldenCase {
  std::string name, module;
  std::map<std::string, c10::IValue> config;  ///< constructor arguments of the Python module
  std::vector<at::Tensor> inputs;             ///< [x], [stored, state, projection] or [stored, projection]
  Masks masks;
  std::map<std::string, at::Tensor> state_dict;
  at::Tensor output, output_weight;     ///< the gradients are those of sum(output * output_weight)
  std::vector<at::Tensor> grad_inputs;  ///< undefined where Python had None
  std::map<std::string, at::Tensor> grad_parameters;
  at::Tensor association_matrix, projected_pattern_matrix;
};

/// Reads a file that torch.save wrote from a dict. @throws c10::Error or std::exception if it is not a golden case.
GoldenCase read_golden_case(const std::filesystem::path& file);

/// Makes the same call with this library and returns the largest absolute error of each quantity. The error is infinite
/// if shapes differ, or if there is a NaN in only one of the two results.
std::vector<std::pair<std::string, double>> replay(const GoldenCase& golden);

}  // namespace hopfield::parity
