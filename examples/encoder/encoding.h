#pragma once

#include "common/progress.h"
#include "model.h"

namespace hopfield::encoder {

/// The embeddings of all sentences [sentences, width], at most `batch` of them at a time, in their order.
at::Tensor encode_all(SentenceEncoder& model, const Tokens& tokens, int64_t batch, examples::Progress* progress);

/// Sets the number of threads, unless it is 0.
void set_threads(int64_t threads);

}  // namespace hopfield::encoder
