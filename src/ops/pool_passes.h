#pragma once

#include "ops/passes.h"
#include "ops/pool_internal.h"

#include <c10/core/DeviceType.h>

#include <optional>
#include <string>

namespace hopfield::detail {

/// The kernels of a device, as the op sees them.
struct PoolPasses {
  /// One sentence against them, or nothing.
  std::optional<std::string> (*reason_against)(const PoolInput& input, const RetrieveSettings& settings);
  /// How they serve a call that there is no reason against.
  std::string (*describe)(const PoolInput& input, const RetrieveSettings& settings);
  /// With logsumexp and scores of beta xi . W y alone. `saved` may be null.
  PoolResult (*forward)(const PoolInput& input, const RetrieveSettings& settings, uint64_t seed, Saved* saved);
  /// @param incoming   gradients of output, state, logsumexp and mass; undefined: none
  /// @param instances  where their gradient goes, or undefined
  PassedBack (*backward)(const PoolInput& input, const RetrieveSettings& settings, uint64_t seed, const Saved& saved,
                         const PoolResult& incoming, const at::Tensor& instances);
};

/// Null: the build has none for this device.
const PoolPasses* pool_passes(c10::DeviceType device);

/// Makes a device's passes known, in place of others; the file that has them does so when it is loaded.
class RegisterPoolPasses {
 public:
  RegisterPoolPasses(c10::DeviceType device, const PoolPasses& passes);
};

}  // namespace hopfield::detail
