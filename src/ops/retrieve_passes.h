#pragma once

#include "ops/passes.h"
#include "ops/retrieve_internal.h"

#include <c10/core/DeviceType.h>

#include <array>
#include <optional>
#include <string>

namespace hopfield::detail {

/// What backward finds for a call's tensors. Undefined: not asked for.
struct RetrieveGradients {
  at::Tensor state, stored, projection;
  at::Tensor beta;  ///< from the passes: each row's share [N, H, L], float32
};

/// The kernels of a device, as the op sees them. All dimensions are there.
struct RetrievePasses {
  /// One sentence against them, or nothing; and then the patterns as the kernels want them, where masks hide numbers
  /// that are not finite.
  std::optional<std::string> (*reason_against)(RetrieveInput& input, const RetrieveSettings& settings);
  /// Without energies. `saved` may be null.
  RetrieveResult (*forward)(const RetrieveInput& input, const RetrieveSettings& settings, uint64_t seed, Saved* saved);
  /// @param incoming  gradients of output, state and logsumexp; undefined: none
  /// @param wants  which of stored and projection ask for a gradient
  RetrieveGradients (*backward)(const RetrieveInput& input, const RetrieveSettings& settings, uint64_t seed,
                                const Saved& saved, const RetrieveResult& incoming, std::array<bool, 2> wants);
};

/// Null: the build has none for this device.
const RetrievePasses* retrieve_passes(c10::DeviceType device);

/// One sentence against the fused kernels of the call's device, or nothing; see RetrievePasses.
std::optional<std::string> reason_against_retrieving(RetrieveInput& input, const RetrieveSettings& settings);

/// Makes a device's passes known, in place of others; the file that has them does so when it is loaded.
class RegisterRetrievePasses {
 public:
  RegisterRetrievePasses(c10::DeviceType device, const RetrievePasses& passes);
};

}  // namespace hopfield::detail
