#pragma once

#include "memory/interaction.h"
#include "memory/sweeps.h"

#include <ATen/core/Tensor.h>

/// Dense associative memories: networks of two-valued neurons whose energy falls with sum_i F(x_i.s).
namespace hopfield::memory::detail {

/// Updates of queries [Q, d] in a memory with the patterns [N, d]. Fills what make_sweeps() does, and the energies.
Recall recall_dense(const Interaction& interaction, const at::Tensor& patterns, const at::Tensor& queries,
                    const RecallSettings& settings);

/// The energies [Q] of states [Q, d].
at::Tensor energies_dense(const Interaction& interaction, const at::Tensor& patterns, const at::Tensor& states);

}  // namespace hopfield::memory::detail
