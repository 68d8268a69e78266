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
  at::Tensor sums;            ///< two numbers of each association, as in kernels/params.h [T + 1, N, H, L, 2]
  at::Tensor output;          ///< before it was rounded [N, H, L, d_v]; not of sparse separations
  at::Tensor means;           ///< of a pool: mean instances that the updates found [T, N, H, L, d_in]
  at::Tensor mass;            ///< of a pool: sum of the final association [N, H, L]
  at::Tensor steps;           ///< updates made [N, H, L] int64
};

inline std::array<at::Tensor*, 7> tensors_of(Saved& saved) {
  return {&saved.states, &saved.rounding_error, &saved.sums, &saved.output, &saved.means, &saved.mass, &saved.steps};
}

/// The gradients that the kernels compute. Those that are not wanted are undefined.
struct KernelGradients {
  at::Tensor state, stored, projection;
  at::Tensor beta;  ///< each query's share [N, H, L] float32
  // Of a pool, for the gradients of its weight and bias.
  at::Tensor products;  ///< dS Y of the T + 1 associations [T + 1, N, H, L, d_in]
  at::Tensor states;    ///< gradients of the states after 1 .. T updates [T, N, H, L, d]
};

/// The fused kernels of one kind of device, as the ops see them.
struct DeviceKernels {
  /// Why they do not serve calls of this form (types, widths, kinds of masks, settings), in a sentence; nothing if they
  /// do. No values are read. Of a pool, only the stored patterns and the sizes of the weight have to be there.
  std::optional<std::string> (*reason_against)(const OpCall& call);
  /// Whether they serve retrieve with all separations, and not with softmax alone.
  bool has_all_separations;
  /// Whether patterns that masks hide have to be finite, since they enter the products all the same.
  bool reads_hidden_patterns;
  /// How they serve a pool, in a few words.
  std::string (*describe)(const OpCall& call);
  /// The forward pass, without energies. The scores and the logsumexp of a pool lack what its bias adds to them.
  /// `saved` may be null.
  PoolResult (*forward)(const OpCall& call, Saved* saved);
  /// @param incoming         gradients of output, state, logsumexp and mass; undefined: none
  /// @param wants_patterns   whether stored patterns or projection ask for a gradient
  KernelGradients (*backward)(const OpCall& call, const Saved& saved, const PoolResult& incoming, bool wants_patterns);
};

/// The kernels of a kind of device; null if this build has none.
const DeviceKernels* device_kernels(c10::DeviceType device);

/// The kernels of the device that the call's tensors are on, which must have some.
inline const DeviceKernels& kernels_for(const OpCall& call) {
  return *device_kernels(call.input.stored.device().type());
}

/// Registers the kernels of a kind of device, and replaces those that were registered before. The file that has them
/// does so when the library is loaded.
class RegisterDeviceKernels {
 public:
  RegisterDeviceKernels(c10::DeviceType device, const DeviceKernels& kernels);
};

/// Why the fused kernels would not serve a call, in a sentence; nothing if they would. In that case, patterns that
/// masks hide are set to zero where they are not finite and the kernels would read them.
std::optional<std::string> reason_against_fused(OpCall& call);

/// Whether the fused kernels are to serve a call, by its option `backend` and by reason_against_fused().
/// @throws c10::Error if the option asks for them and they cannot.
bool chooses_fused(OpCall& call);

/// The fused kernels of the tensors' device, forward and backward as one node of autograd's graph. The call must be one
/// that reason_against_fused() has nothing against.
PoolResult run_fused(const OpCall& call);

/// The same for a call of retrieve whose gradient mode is implicit: the states without a gradient, then one update that
/// has one, which the solver passes on.
PoolResult run_fused_with_implicit_gradient(const OpCall& call);

}  // namespace hopfield::detail
