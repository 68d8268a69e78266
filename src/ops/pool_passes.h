#pragma once

#include "ops/pool_internal.h"

#include <c10/core/DeviceType.h>

#include <optional>
#include <string>

namespace hopfield::detail {

/// What forward keeps for backward: a few numbers and vectors for each query and step. In the passes' own terms, all
/// float32.
struct Saved {
  at::Tensor states;       ///< after 1 .. T updates [T, N, H, L, d]
  at::Tensor sums;         ///< of exponentials
  at::Tensor output;       ///< [N, H, L, d_v], a pool: [N, H, L, d_in]
  at::Tensor means, mass;  ///< of a pool: mean instances of the updates [T, N, H, L, d_in], sum of the association
};

/// What backward finds, float32. The gradients of patterns go to tensors that the caller gives, or nowhere.
struct PassedBack {
  at::Tensor state;     ///< like the states of the call
  at::Tensor beta;      ///< each row's share [N, H, L]
  at::Tensor products;  ///< of a pool: dS Y of the T + 1 associations [T + 1, N, H, L, d_in]
  at::Tensor states;    ///< of a pool: gradient of the states after 1 .. T updates [T, N, H, L, d]
};

/// The kernels of a device, as the op sees them.
struct PoolPasses {
  /// One sentence against them, or nothing.
  std::optional<std::string> (*reason_against)(const PoolInput& input, const RetrieveSettings& settings);
  /// With logsumexp and scores of beta xi . W y alone. `saved` may be null.
  PoolResult (*forward)(const PoolInput& input, const RetrieveSettings& settings, uint64_t seed, Saved* saved);
  /// @param incoming   gradients of output, state, logsumexp and mass; undefined: none
  /// @param instances  where their gradient goes, or undefined
  PassedBack (*backward)(const PoolInput& input, const RetrieveSettings& settings, uint64_t seed, const Saved& saved,
                         const at::Tensor& steps, const PoolResult& incoming, const at::Tensor& instances);
};

/// Null: the build has none for this device.
const PoolPasses* pool_passes(c10::DeviceType device);

/// Makes a device's passes known, in place of others; the file that has them does so when it is loaded.
class RegisterPoolPasses {
 public:
  RegisterPoolPasses(c10::DeviceType device, const PoolPasses& passes);
};

}  // namespace hopfield::detail
