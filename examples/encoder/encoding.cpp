#include "encoding.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>

namespace hopfield::encoder {

at::Tensor encode_all(SentenceEncoder& model, const Tokens& tokens, int64_t batch, examples::Progress* progress) {
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> parts;
  const auto* offsets = tokens.offsets.data_ptr<int64_t>();
  for (int64_t first = 0, end = 0; first < tokens.size(); first = end) {
    // As many tokens as leave the layers' activations in the cache, more or less.
    constexpr int64_t kMostTokens = 2048;
    end = first + 1;
    while (end < std::min(first + batch, tokens.size()) && offsets[end + 1] - offsets[first] <= kMostTokens) ++end;
    parts.push_back(model->forward(tokens.part(first, end)));
    if (progress != nullptr) progress->advance(end - first);
  }
  return at::cat(parts);
}

void set_threads(int64_t threads) {
  if (threads > 0) at::set_num_threads(static_cast<int>(threads));
}

}  // namespace hopfield::encoder
