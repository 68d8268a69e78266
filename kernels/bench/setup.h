#pragma once

#include "kernels/bench/case.h"
#include <hopfield/hopfield.h>

#include <functional>
#include <vector>

namespace hopfield::bench {

/// A case's module and data, the same for whoever works on it.
struct Setup {
  explicit Setup(const Case& c, Backend backend = Backend::automatic);

  /// Runs `forward`, and in training also its backward from a gradient as a loss would give it. Returns the output.
  at::Tensor run(const std::function<at::Tensor()>& forward);
  void drop_gradients();

  /// More inputs like the first; next() takes the following one, after the last the first.
  void add_inputs(int64_t count);
  void next();
  int64_t input_count() const { return static_cast<int64_t>(inputs.size()); }

  /// The input without padding.
  const at::Tensor& instances() const { return bags.values.defined() ? bags.values : input; }
  int64_t input_bytes() const;

  Case which;
  Backend backend;
  int64_t batch = 0, heads = 0, queries = 0, keys = 0, depth = 0, width = 0, steps = 0;
  nn::HopfieldPooling pooling{nullptr};
  nn::HopfieldLayer layer{nullptr};
  nn::Hopfield self{nullptr}, core{nullptr};
  std::vector<at::Tensor> parameters;
  at::Tensor input, padding, gradient;  ///< input: padded where bags are ragged
  at::Tensor stored, values;            ///< the op's
  BagBatch bags;                        ///< ragged ones

 private:
  struct Input {
    at::Tensor input, rows;
  };
  template <typename Module>
  void adopt(Module& module);
  void set_rows(const at::Tensor& rows);

  std::vector<Input> inputs;
  size_t turn = 0;
};

/// The op's call on the present input.
RetrieveInput op_input(const Setup& s);
RetrieveOptions op_options(const Setup& s);

at::Tensor library_forward(Setup& s);

/// LayerNorms, projections, and T + 1 calls of scaled_dot_product_attention on patterns that are never expanded; ragged
/// bags are padded.
at::Tensor sdpa_forward(Setup& s);

}  // namespace hopfield::bench
