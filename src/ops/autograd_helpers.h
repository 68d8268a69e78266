#pragma once

#include "ops/device_kernels.h"

#include <vector>

namespace hopfield::detail {

/// Whether the forward pass keeps the states of all updates. Where the threshold may stop long before the allowed
/// number of updates is reached, memory for all of them would be wasted, and the backward pass makes the updates again.
bool keeps_states(const OpCall& call);

/// Throws where the backward pass would make the updates again while a CUDA graph is being captured.
void check_replay(const OpCall& call, const Saved& saved);

/// Settings with which a call makes the same updates again: `steps` [N, H, L] of them, and no more.
RetrieveSettings replay_settings(RetrieveSettings settings, const at::Tensor& steps);

/// dL/dbeta in the shape of beta, from each query's share [N, H, L].
at::Tensor beta_gradient(const at::Tensor& shares, const at::Tensor& beta);

/// Memory for a gradient of these patterns, uninitialised, with contiguous rows.
at::Tensor gradient_like(const at::Tensor& patterns);

/// Gradients that can be differentiated again, one for each input: undefined for inputs that ask for none.
/// @param incoming  gradients of the outputs, or undefined
std::vector<at::Tensor> differentiable_gradients(const std::vector<at::Tensor>& outputs,
                                                 const std::vector<at::Tensor>& incoming,
                                                 const std::vector<at::Tensor>& inputs);

}  // namespace hopfield::detail
