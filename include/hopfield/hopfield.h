#pragma once

/// Everything: modern Hopfield networks for LibTorch.

#include <hopfield/core/bags.h>
#include <hopfield/core/energy.h>
#include <hopfield/core/update.h>
#include <hopfield/nn/hopfield.h>
#include <hopfield/nn/hopfield_layer.h>
#include <hopfield/nn/hopfield_pooling.h>
#include <hopfield/nn/transformer.h>
#include <hopfield/ops/retrieve.h>
