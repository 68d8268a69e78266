#pragma once

#include "ops/op_call.h"

#include <c10/core/DeviceType.h>

#include <array>
#include <optional>
#include <string>

namespace hopfield::detail {

/// What the fused kernels keep of a forward pass for its backward pass: a few numbers and vectors for each query and
/// update. Only the kernels that wrote them know the layout.
struct Saved {
  at::Tensor states;          ///< after 1 .. T updates [T, N, H, L, d]
  at::Tensor rounding_error;  ///< what those states lost where they are kept in 16 bits
  at::Tensor sums;            ///< largest score and sum of exponentials of each association [T + 1, N, H, L, 2]
  at::Tensor output;          ///< before it was rounded [N, H, L, d_v]
  at::Tensor means;           ///< of a pool: mean instances that the updates found [T, N, H, L, d_in]
  at::Tensor mass;            ///< of a pool: sum of the final association [N, H, L]
  at::Tensor steps;           ///< updates made [N, H, L] int64
};

inline std::array<at::Tensor*, 7> tensors_of(Saved& saved) {
  return {&saved.states, &saved.rounding_error, &saved.sums, &saved.output, &saved.means, &saved.mass, &saved.steps};
}

/// The gradients that the kernels find. Undefined: not asked for.
struct KernelGradients {
  at::Tensor state, stored, projection;
  at::Tensor beta;  ///< each query's share [N, H, L] float32
  // Of a pool, for the gradients of its weight and bias.
  at::Tensor products;  ///< dS Y of the T + 1 associations [T + 1, N, H, L, d_in]
  at::Tensor states;    ///< gradients of the states after 1 .. T updates [T, N, H, L, d]
};

/// The fused kernels of one kind of device, as the ops see them.
struct DeviceKernels {
  /// Why they do not serve calls of this form, in a sentence: of these types, widths, kinds of masks and settings.
  /// Reads no values, and of the patterns only those of a retrieval, or the stored ones and the weight's sizes of a
  /// pool.
  std::optional<std::string> (*reason_against)(const OpCall& call);
  /// Whether patterns that masks hide have to be finite, since they enter the products all the same.
  bool reads_hidden_patterns;
  /// How they serve a pool.
  std::string (*describe)(const OpCall& call);
  /// Neither energies nor, of a pool, what its bias adds to the scores are in the result. `saved` may be null.
  PoolResult (*forward)(const OpCall& call, Saved* saved);
  /// @param incoming         gradients of output, state, logsumexp and mass; undefined: none
  /// @param wants_patterns   whether stored patterns or projection ask for a gradient
  KernelGradients (*backward)(const OpCall& call, const Saved& saved, const PoolResult& incoming, bool wants_patterns);
};

/// Null: the build has none for this kind of device.
const DeviceKernels* device_kernels(c10::DeviceType device);

/// Those of a call that they serve.
inline const DeviceKernels& kernels_for(const OpCall& call) {
  return *device_kernels(call.input.stored.device().type());
}

/// Makes a device's kernels known, in place of others. The file that has them does so when the library is loaded.
class RegisterDeviceKernels {
 public:
  RegisterDeviceKernels(c10::DeviceType device, const DeviceKernels& kernels);
};

/// Why the fused kernels would not serve a call, in a sentence; or nothing, and then the call as the kernels want it:
/// patterns that masks hide are finite where the kernels need that.
std::optional<std::string> reason_against_fused(OpCall& call);

/// Whether the fused kernels are to serve a call, by its backend and by reason_against_fused().
/// @throws c10::Error if the backend is fused and they cannot.
bool chooses_fused(OpCall& call);

/// The fused kernels of the tensors' device, forward and backward as one node of autograd's graph. The call must be one
/// that reason_against_fused() has nothing against.
PoolResult run_fused(const OpCall& call);

/// The same for a call of retrieve whose gradient mode is implicit: the states without a gradient, then one update that
/// has one, which the solver passes on.
PoolResult run_fused_with_implicit_gradient(const OpCall& call);

}  // namespace hopfield::detail
