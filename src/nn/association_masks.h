#pragma once

#include <hopfield/nn/association.h>

#include <cstdint>
#include <string>

namespace hopfield::nn {

/// Checks the masks of dense patterns and gives them to the op in its shapes. They get `appended` columns more, which
/// exclude nothing. `layer` begins the messages.
void set_masks(RetrieveInput& input, const Masks& masks, int64_t batch, int64_t heads, int64_t appended,
               const std::string& layer);

/// Throws unless ragged patterns come with no mask but a key bias, one number for each of the `total` stored patterns.
void check_ragged_masks(const Masks& masks, int64_t total, int64_t appended, const std::string& layer);

/// Patterns [N or 1, S, size] or ragged [total, size], with zeros in place of those that no query may attend to: NaN
/// there must not reach the gradients of the parameters. A pattern that the batch shares is replaced only if it is
/// excluded for the whole batch.
at::Tensor without_excluded(const at::Tensor& patterns, const Masks& masks);

/// States [N, L, size] that are the stored patterns too, with zeros in place of padding that is not finite. Finite
/// padding stays, because its outputs are returned.
at::Tensor without_unusable_padding(const at::Tensor& state, const Masks& masks);

}  // namespace hopfield::nn
