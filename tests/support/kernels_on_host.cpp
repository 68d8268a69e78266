// A program that contains this file has the ops run the GPU's kernels on CPU tensors.

#include "support/device.h"

namespace hopfield::testing {
namespace {

[[maybe_unused]] const bool kIsSet = kernels_run_on_host = true;

}  // namespace
}  // namespace hopfield::testing
