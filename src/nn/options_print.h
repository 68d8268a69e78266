#pragma once

#include <hopfield/nn/options.h>

#include <string>

namespace hopfield::nn {

/// The options of a layer in one line, for pretty_print: the most important ones, and those that are not the defaults.
std::string describe(const AssociationSettings& settings);

}  // namespace hopfield::nn
