#pragma once

#include "nn/association_call.h"

#include <cstdint>
#include <string>

namespace hopfield::nn {

/// Throws unless the patterns have the number of dimensions, the sizes and the type that the options ask for. They come
/// as users give them, batch first or not. Undefined offsets: dense patterns.
void check_patterns(const AssociationCoreImpl& core, const AssociationInput& patterns, const at::Tensor& state_offsets,
                    const at::Tensor& offsets);

/// The number of batch elements or bags. Throws, beginning with `layer`, unless all patterns of the call have it, or 1.
int64_t batch_size(const AssociationCall& call, const std::string& layer);

}  // namespace hopfield::nn
