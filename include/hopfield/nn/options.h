#pragma once

#include <hopfield/ops/iteration.h>
#include <hopfield/ops/option_macro.h>

#include <cstdint>
#include <optional>
#include <string>

namespace hopfield::nn {

/// What Hopfield, HopfieldPooling and HopfieldLayer have in common. Names and defaults are those of the Python package
/// hflayers; sizes of 0 or less, and combinations without effect, are refused at construction.
struct AssociationSettings : IterationSettings {
  /// The layer's name, which begins its error messages.
  std::string layer = "hopfield::nn::Hopfield";
  /// Width of the state (query) patterns. May be absent where nothing is projected or normalised.
  std::optional<int64_t> input_size;
  /// Width of the association space, per head. Default: input_size / num_heads.
  std::optional<int64_t> hidden_size;
  /// Width of the output projection. Default: input_size.
  std::optional<int64_t> output_size;
  /// Width of the projected values, per head. Default: hidden_size.
  std::optional<int64_t> pattern_size;
  /// Width of the stored (key) patterns. Default: input_size.
  std::optional<int64_t> stored_pattern_size;
  /// Width of the pattern projection's input (values). Default: input_size.
  std::optional<int64_t> pattern_projection_size;
  /// Number of parallel associations.
  int64_t num_heads = 1;
  /// beta, one or one per head. Default: 1 / sqrt(hidden_size); 1 when everything is static.
  std::optional<PerHead<double>> scaling;
  /// Makes beta a parameter `association_core.scaling` [num_heads].
  bool scaling_as_trainable = false;

  /// LayerNorm of the stored patterns, the state patterns and the pattern projection before they are projected.
  bool normalize_stored_pattern = true;
  bool normalize_stored_pattern_affine = true;
  bool normalize_state_pattern = true;
  bool normalize_state_pattern_affine = true;
  bool normalize_pattern_projection = true;
  bool normalize_pattern_projection_affine = true;
  /// LayerNorm of projected state and stored patterns, over hidden_size, before the first step only.
  bool normalize_hopfield_space = false;
  bool normalize_hopfield_space_affine = false;
  double normalize_stored_pattern_eps = 1e-5;
  double normalize_state_pattern_eps = 1e-5;
  double normalize_pattern_projection_eps = 1e-5;
  double normalize_hopfield_space_eps = 1e-5;

  /// The patterns are in association space already: they are not projected, and all heads share them.
  bool stored_pattern_as_static = false;
  bool state_pattern_as_static = false;
  bool pattern_projection_as_static = false;
  /// Values are projected through the keys' projection first: V = P W_K W_V.
  bool pattern_projection_as_connected = false;

  /// Batches are [N, L, size]; false: [L, N, size].
  bool batch_first = true;
  /// Elementwise function of the output, by its name among LibTorch's operators: "tanh", "relu", "gelu", ...
  std::optional<std::string> association_activation;
  /// Probability of dropping an entry of the final association in training.
  double dropout = 0.0;
  /// Biases of the input projections and of the output projection.
  bool input_bias = true;
  /// Appends one trainable pattern to the projected stored patterns and values.
  bool concat_bias_pattern = false;
  /// Appends a pattern of zeros to the projected stored patterns and values.
  bool add_zero_association = false;
  /// Leaves the output projection out. The output is then the heads' values side by side.
  bool disable_out_projection = false;
};

/// Chained setters for AssociationSettings, returning the derived options.
template <typename D, typename Settings>
class AssociationOptions : public IterationOptions<D, Settings> {
  using Derived = D;

 public:
  AssociationOptions() = default;
  AssociationOptions(int64_t input_size) { this->settings_.input_size = input_size; }  // NOLINT: conversion intended

  HOPFIELD_OPTION(input_size)
  HOPFIELD_OPTION(hidden_size)
  HOPFIELD_OPTION(output_size)
  HOPFIELD_OPTION(pattern_size)
  HOPFIELD_OPTION(stored_pattern_size)
  HOPFIELD_OPTION(pattern_projection_size)
  HOPFIELD_OPTION(num_heads)
  D& scaling(PerHead<double> value) {
    this->settings_.scaling = std::move(value);
    return static_cast<D&>(*this);
  }
  const std::optional<PerHead<double>>& scaling() const { return this->settings_.scaling; }
  /// The same option under the name that retrieve() and the literature use.
  D& beta(PerHead<double> value) { return scaling(std::move(value)); }
  const std::optional<PerHead<double>>& beta() const { return scaling(); }
  HOPFIELD_OPTION(scaling_as_trainable)
  HOPFIELD_OPTION(normalize_stored_pattern)
  HOPFIELD_OPTION(normalize_stored_pattern_affine)
  HOPFIELD_OPTION(normalize_stored_pattern_eps)
  HOPFIELD_OPTION(normalize_state_pattern)
  HOPFIELD_OPTION(normalize_state_pattern_affine)
  HOPFIELD_OPTION(normalize_state_pattern_eps)
  HOPFIELD_OPTION(normalize_pattern_projection)
  HOPFIELD_OPTION(normalize_pattern_projection_affine)
  HOPFIELD_OPTION(normalize_pattern_projection_eps)
  HOPFIELD_OPTION(normalize_hopfield_space)
  HOPFIELD_OPTION(normalize_hopfield_space_affine)
  HOPFIELD_OPTION(normalize_hopfield_space_eps)
  HOPFIELD_OPTION(stored_pattern_as_static)
  HOPFIELD_OPTION(state_pattern_as_static)
  HOPFIELD_OPTION(pattern_projection_as_static)
  HOPFIELD_OPTION(pattern_projection_as_connected)
  HOPFIELD_OPTION(batch_first)
  HOPFIELD_OPTION(association_activation)
  HOPFIELD_OPTION(dropout)
  HOPFIELD_OPTION(input_bias)
  HOPFIELD_OPTION(concat_bias_pattern)
  HOPFIELD_OPTION(add_zero_association)
  HOPFIELD_OPTION(disable_out_projection)

  /// Turns the three LayerNorms of the inputs off (or on), affine parts included.
  D& normalize_inputs(bool wanted) {
    return normalize_stored_pattern(wanted)
        .normalize_stored_pattern_affine(wanted)
        .normalize_state_pattern(wanted)
        .normalize_state_pattern_affine(wanted)
        .normalize_pattern_projection(wanted)
        .normalize_pattern_projection_affine(wanted);
  }
  /// Makes nothing trainable: patterns are used as they come, without norms, projections and output projection. What is
  /// left is retrieve() itself.
  D& all_static() {
    return normalize_inputs(false)
        .stored_pattern_as_static(true)
        .state_pattern_as_static(true)
        .pattern_projection_as_static(true)
        .disable_out_projection(true);
  }
};

class HopfieldOptions : public AssociationOptions<HopfieldOptions, AssociationSettings> {
 public:
  using AssociationOptions::AssociationOptions;
  explicit HopfieldOptions(AssociationSettings settings) { settings_ = std::move(settings); }
};

struct PoolingSettings : AssociationSettings {
  /// Number of state patterns: pooled vectors for each bag.
  int64_t quantity = 1;
  /// The state patterns are trained.
  bool trainable = true;
};

class HopfieldPoolingOptions : public AssociationOptions<HopfieldPoolingOptions, PoolingSettings> {
  using Derived = HopfieldPoolingOptions;
  using Settings = PoolingSettings;

 public:
  using AssociationOptions::AssociationOptions;
  HOPFIELD_OPTION(quantity)
  HOPFIELD_OPTION(trainable)
};

struct LayerSettings : AssociationSettings {
  /// Number of stored patterns.
  int64_t quantity = 1;
  /// The stored patterns are trained.
  bool trainable = true;
  /// Values have weights of their own (target_weights) instead of being the stored patterns.
  bool lookup_weights_as_separated = false;
  /// Those weights are trained.
  bool lookup_targets_as_trainable = true;
};

class HopfieldLayerOptions : public AssociationOptions<HopfieldLayerOptions, LayerSettings> {
  using Derived = HopfieldLayerOptions;
  using Settings = LayerSettings;

 public:
  using AssociationOptions::AssociationOptions;
  HOPFIELD_OPTION(quantity)
  HOPFIELD_OPTION(trainable)
  HOPFIELD_OPTION(lookup_weights_as_separated)
  HOPFIELD_OPTION(lookup_targets_as_trainable)
};

}  // namespace hopfield::nn

#undef HOPFIELD_OPTION
