#pragma once

#include "kernels/bench/case.h"
#include <hopfield/hopfield.h>

#include <functional>
#include <vector>

namespace hopfield::bench {

/// The module and the data of a case, which all contenders share.
struct Setup {
  explicit Setup(const Case& c, Backend backend = Backend::automatic);

  /// Runs `forward` and, in training, the backward pass from a fixed random gradient of the output. Returns the output.
  at::Tensor run(const std::function<at::Tensor()>& forward);
  void drop_gradients();

  /// Draws more inputs of the same shape.
  void add_inputs(int64_t count);
  /// Makes the next input the current one; the first one follows the last.
  void next();
  int64_t input_count() const { return static_cast<int64_t>(inputs.size()); }

  /// The current input without padding.
  const at::Tensor& instances() const { return bags.values.defined() ? bags.values : input; }
  int64_t input_bytes() const;

  Case which;
  Backend backend;
  int64_t batch = 0, heads = 0, queries = 0, keys = 0, depth = 0, width = 0, steps = 0;
  nn::HopfieldPooling pooling{nullptr};
  nn::HopfieldLayer layer{nullptr};
  nn::Hopfield self{nullptr}, core{nullptr};
  std::vector<at::Tensor> parameters;
  at::Tensor input;           ///< the current input; ragged bags are padded in it
  at::Tensor padding;         ///< its padding mask, if bags are ragged
  at::Tensor gradient;        ///< of the output
  at::Tensor stored, values;  ///< keys and values, if the case is the op
  BagBatch bags;              ///< the current input, if bags are ragged

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

/// The arguments of the op for the current input.
RetrieveInput op_input(const Setup& s);
RetrieveOptions op_options(const Setup& s);

/// The forward pass by this library.
at::Tensor library_forward(Setup& s);

/// The forward pass by LibTorch; see sdpa_work().
at::Tensor sdpa_forward(Setup& s);

}  // namespace hopfield::bench
