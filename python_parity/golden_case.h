#pragma once

#include <hopfield/hopfield.h>

#include <torch/torch.h>

#include <filesystem>
#include <map>
#include <string>
#include <variant>
#include <vector>

namespace hopfield::parity {

/// One call of a module of the Python package hflayers with everything that came out of it, in float64.
struct GoldenCase {
  std::string name, module;
  std::map<std::string, c10::IValue> config;  ///< constructor arguments of the Python module
  std::vector<at::Tensor> inputs;             ///< one tensor; stored, state, projection; or stored, projection
  Masks masks;
  std::map<std::string, at::Tensor> state_dict;
  at::Tensor output, output_weight;     ///< gradients are those of sum(output * output_weight)
  std::vector<at::Tensor> grad_inputs;  ///< undefined where Python had None
  std::map<std::string, at::Tensor> grad_parameters;
  at::Tensor association_matrix, projected_pattern_matrix;
};

/// Reads a file written by torch.save of a dict. @throws c10::Error or std::exception that says what is wrong with it.
GoldenCase read_golden_case(const std::filesystem::path& file);

/// The same call with this library, and how far it is off: largest absolute errors by quantity, in order. Differing
/// shapes, or NaN on one side only, count as infinity.
std::vector<std::pair<std::string, double>> replay(const GoldenCase& golden);

}  // namespace hopfield::parity
