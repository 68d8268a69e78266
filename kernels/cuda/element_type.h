#pragma once

#include <cstdint>

namespace hopfield::kernels::cuda {

/// Of the tensors that kernels read.
enum class ElementType : uint8_t { bfloat16, float16, float32 };

}  // namespace hopfield::kernels::cuda
