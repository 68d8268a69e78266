#pragma once

// What kernels/cuda/host.h includes where kernels are compiled for the host.

#include "cuda_on_host/arithmetic.h"
#include "cuda_on_host/async_copy.h"
#include "cuda_on_host/device.h"
#include "cuda_on_host/launch.h"
#include "cuda_on_host/memory.h"
#include "cuda_on_host/numbers.h"
#include "cuda_on_host/tensor_copy.h"
#include "cuda_on_host/warp.h"
#include "cuda_on_host/warpgroup.h"
