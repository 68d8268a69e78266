#pragma once

#include "ops/cpu_call.h"
#include "ops/passes.h"

#include <vector>

namespace hopfield::detail {

/// Runs a call. `saved` may be null.
PoolResult forward_pass(const CpuCall& call, const RetrieveSettings& settings, Saved* saved);

/// @param incoming  gradients of output, state, logsumexp and mass; undefined: none
PassedBack backward_pass(const CpuCall& call, const RetrieveSettings& settings, const Saved& saved,
                         const PoolResult& incoming, const at::Tensor& stored, const at::Tensor& values);

/// Whether forward keeps the states of all steps. Otherwise many more may be allowed than are made, and there is no
/// memory for all that are allowed: backward then runs forward again, for as many as were made.
/// @param state  of the call, whose device may be recording a CUDA graph
bool keeps_states(const RetrieveSettings& settings, const at::Tensor& state);
/// Throws where backward would run forward again while a CUDA graph is being captured. `function` begins the message.
void check_replay(const char* function, const Saved& saved, const at::Tensor& state);
/// Settings under which a call makes the updates again that it made before, `steps` [N, H, L] of them, and no more
/// steps than these need.
RetrieveSettings replay_settings(RetrieveSettings settings, const at::Tensor& steps);

/// dL/dbeta from each row's share, in the form of the option.
at::Tensor beta_gradient(const at::Tensor& shares, const at::Tensor& beta);
/// An uninitialised gradient of patterns, with contiguous rows.
at::Tensor gradient_like(const at::Tensor& patterns);
/// Gradients that can be differentiated again, one for each input: undefined where it asks for none, or is undefined.
/// @param incoming  gradients of the outputs, or undefined
std::vector<at::Tensor> differentiable_gradients(const std::vector<at::Tensor>& outputs,
                                                 const std::vector<at::Tensor>& incoming,
                                                 const std::vector<at::Tensor>& inputs);

/// Whether autograd follows one of the tensors.
bool any_needs_gradient(std::initializer_list<at::Tensor> tensors);

}  // namespace hopfield::detail
