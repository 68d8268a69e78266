#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/DeviceType.h>

#include <array>
#include <optional>

namespace hopfield::detail {

/// An op's kernels for each kind of device.
template <class Passes>
class PassesOfDevices {
 public:
  /// Null: there are none.
  const Passes* find(c10::DeviceType device) const {
    const auto& passes = all_.at(static_cast<size_t>(device));
    return passes ? &*passes : nullptr;
  }
  /// In place of others.
  void set(c10::DeviceType device, const Passes& passes) { all_.at(static_cast<size_t>(device)) = passes; }

 private:
  std::array<std::optional<Passes>, c10::COMPILE_TIME_MAX_DEVICE_TYPES> all_;
};

/// What forward keeps for backward: a few numbers and vectors for each query and step. In the passes' own terms,
/// float32 unless they say otherwise.
struct Saved {
  at::Tensor states;       ///< after 1 .. T updates [T, N, H, L, d]
  at::Tensor sums;         ///< of exponentials
  at::Tensor output;       ///< [N, H, L, d_v], a pool: [N, H, L, d_in]
  at::Tensor means, mass;  ///< of a pool: mean instances of the updates [T, N, H, L, d_in], sum of the association
  at::Tensor rest;         ///< what rounding left of states that are kept in 16 bits
  at::Tensor steps;        ///< updates made [N, H, L] int64, which the caller adds
};

/// All of them, in a fixed order.
inline std::array<at::Tensor*, 7> tensors_of(Saved& saved) {
  return {&saved.states, &saved.sums, &saved.output, &saved.means, &saved.mass, &saved.rest, &saved.steps};
}

/// What backward finds, float32. The gradients of patterns go to tensors that the caller gives, or nowhere.
struct PassedBack {
  at::Tensor state;     ///< like the states of the call
  at::Tensor beta;      ///< each row's share [N, H, L]
  at::Tensor products;  ///< of a pool: dS Y of the T + 1 associations [T + 1, N, H, L, d_in]
  at::Tensor states;    ///< of a pool: gradient of the states after 1 .. T updates [T, N, H, L, d]
};

}  // namespace hopfield::detail
