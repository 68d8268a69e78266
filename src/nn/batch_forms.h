#pragma once

#include <hopfield/nn/association.h>

#include <cstdint>

namespace hopfield::nn {

// The forms in which users give patterns: with a batch dimension or without one, batch first or not. Tensors that are
// the same object stay the same object: the choice of the route asks for that.

/// With a projection, which is by default the stored patterns.
AssociationInput with_projection(AssociationInput input);

/// Whether all three are one sequence without a batch. They have a projection.
bool is_one_sequence(const AssociationInput& input);

/// One sequence without a batch, and its masks, as a batch of one.
AssociationInput with_batch(const AssociationInput& input, int64_t batch_dimension);
Masks with_batch(Masks masks);
/// The results of that batch without its dimension. The output has it at `batch_dimension`, all else at the beginning.
AssociationResult without_batch(AssociationResult result, int64_t batch_dimension);

/// Patterns [rows, N, size] as [N, rows, size].
AssociationInput as_batch_first(const AssociationInput& input);

}  // namespace hopfield::nn
