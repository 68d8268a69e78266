#pragma once

#include "options.h"

namespace hopfield::mil {

/// Prints the score of every bag and the instances that decided it. Returns the exit code. @throws UsageError
int predict(const PredictOptions& options);

}  // namespace hopfield::mil
