#include "core/shared_matmul.h"

#include <ATen/ATen.h>

namespace hopfield::core {

at::Tensor shared_matmul(const at::Tensor& x, const at::Tensor& y) {
  if (x.dim() != 4 || y.dim() != 4) return at::matmul(x, y);
  // Sizes are read as SymInts, because torch.compile may not know them yet.
  const auto batch = x.sym_size(0), heads = x.sym_size(1), rows = x.sym_size(2), depth = x.sym_size(3),
             columns = y.sym_size(3);
  const bool batch_shared = y.sym_size(0) == 1 && batch != 1;
  const bool heads_shared = y.sym_size(1) == 1 && heads != 1;
  if (batch_shared && (heads_shared || heads == 1)) {
    const auto product = at::matmul(x.reshape_symint({batch * heads * rows, depth}), y[0][0]);
    return product.view_symint({batch, heads, rows, columns});
  }
  if (heads_shared) {
    const auto product = at::matmul(x.reshape_symint({batch, heads * rows, depth}), y.squeeze(1));
    return product.view_symint({batch, heads, rows, columns});
  }
  if (batch_shared) {
    const auto by_head = x.transpose(0, 1).reshape_symint({heads, batch * rows, depth});
    return at::matmul(by_head, y.squeeze(0)).view_symint({heads, batch, rows, columns}).transpose(0, 1);
  }
  return at::matmul(x, y);
}

}  // namespace hopfield::core
