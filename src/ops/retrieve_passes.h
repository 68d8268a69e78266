#pragma once

#include "ops/retrieve_internal.h"

#include <c10/core/DeviceType.h>

#include <optional>
#include <string>

namespace hopfield::detail {

/// The kernels of a device other than the CPU, as the op sees them.
struct RetrievePasses {
  /// One sentence against them, or nothing.
  std::optional<std::string> (*reason_against)(const RetrieveInput& input, const RetrieveSettings& settings);
  /// Without a gradient. Needs all dimensions.
  RetrieveResult (*forward)(const RetrieveInput& input, const RetrieveSettings& settings, uint64_t seed);
};

/// Null: the build has none for this device, or it is the CPU.
const RetrievePasses* retrieve_passes(c10::DeviceType device);

/// One sentence against the fused kernels of the call's device, or nothing; see reason_against_fusing().
std::optional<std::string> reason_against_retrieving(RetrieveInput& input, const RetrieveSettings& settings);

/// Makes a device's passes known; the file that has them does so when it is loaded.
class RegisterRetrievePasses {
 public:
  RegisterRetrievePasses(c10::DeviceType device, const RetrievePasses& passes);
};

}  // namespace hopfield::detail
