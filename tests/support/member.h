#pragma once

#include <hopfield/core/masks.h>

#include <vector>

namespace hopfield::testing {

/// A tensor of a call, or of its masks: what `input.*pointer` would be if all were members of one struct.
template <typename Input>
class Member {
 public:
  Member(at::Tensor Input::*own) : own_(own) {}             // NOLINT: conversion intended
  Member(at::Tensor Masks::*of_masks) : mask_(of_masks) {}  // NOLINT: conversion intended

  at::Tensor& operator()(Input& input) const { return own_ != nullptr ? input.*own_ : input.masks.*mask_; }
  const at::Tensor& operator()(const Input& input) const { return own_ != nullptr ? input.*own_ : input.masks.*mask_; }

 private:
  at::Tensor Input::*own_ = nullptr;
  at::Tensor Masks::*mask_ = nullptr;
};

template <typename Input>
using Members = std::vector<Member<Input>>;

}  // namespace hopfield::testing
