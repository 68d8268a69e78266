#pragma once

#include <ATen/core/Tensor.h>

namespace hopfield::memory {

/// A number for all neurons, or a tensor [d] with one for each.
class PerNeuron {
 public:
  PerNeuron(double value);      // NOLINT: conversion intended
  PerNeuron(at::Tensor value);  // NOLINT: conversion intended
  const at::Tensor& value() const { return value_; }

 private:
  at::Tensor value_;
};

}  // namespace hopfield::memory
