#pragma once

/// Everything: modern Hopfield networks for LibTorch.

#include <hopfield/core/bags.h>
#include <hopfield/core/energy.h>
#include <hopfield/core/ode.h>
#include <hopfield/core/update.h>
#include <hopfield/data/bag_dataset.h>
#include <hopfield/data/bit_patterns.h>
#include <hopfield/data/csv.h>
#include <hopfield/data/folds.h>
#include <hopfield/data/latch.h>
#include <hopfield/data/metrics.h>
#include <hopfield/data/standardize.h>
#include <hopfield/io/checkpoint.h>
#include <hopfield/io/file.h>
#include <hopfield/io/safetensors.h>
#include <hopfield/io/state_dict.h>
#include <hopfield/memory/binary.h>
#include <hopfield/memory/continuous.h>
#include <hopfield/memory/exponential.h>
#include <hopfield/memory/graded.h>
#include <hopfield/memory/kernel.h>
#include <hopfield/memory/lagrangian.h>
#include <hopfield/memory/memory.h>
#include <hopfield/memory/polynomial.h>
#include <hopfield/nn/hopfield.h>
#include <hopfield/nn/hopfield_layer.h>
#include <hopfield/nn/hopfield_pooling.h>
#include <hopfield/nn/transformer.h>
#include <hopfield/ops/pool.h>
#include <hopfield/ops/retrieve.h>
#include <hopfield/version.h>
