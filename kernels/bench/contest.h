#pragma once

#include "kernels/bench/case.h"

#include <memory>
#include <string>
#include <vector>

namespace hopfield::bench {

struct Setup;

/// Who works on a case.
struct Contender {
  std::string name;  ///< "hopfield", or the backend that scaled_dot_product_attention is held to
  std::function<void()> run;
  std::string refusal;  ///< why it is not to be run; empty: it is
};

/// A case that the library and LibTorch's attention work on in turn, on the same weights and inputs.
class Contest {
 public:
  /// @param cache_bytes  of the device. Each call takes another input, of so many that they do not stay in there.
  Contest(const Case& which, int64_t cache_bytes);

  std::vector<Contender>
      contenders;  ///< the library first; a refusal of its own is why its kernels do not serve the op
  void drop_gradients();
  int64_t input_count() const;
  bool inputs_exceed_cache() const { return inputs_exceed_cache_; }

  /// How the library pools, in a sentence; empty where it does not.
  std::string form() const { return form_; }
  /// Bytes of instances that a call of the library cannot do without moving; 0 where it does not pool.
  int64_t bytes_moved() const;

 private:
  void add_peers();

  std::shared_ptr<Setup> setup_;
  std::string form_;
  bool inputs_exceed_cache_ = false;
};

/// Largest error, as a share of the largest number: of the output and, in training, of the input's gradient.
struct Errors {
  double hopfield, math;  ///< of the library, and of LibTorch's attention by plain operations
};

/// Against LibTorch operations in float64 on the same data and weights, which are larger than fresh ones.
Errors largest_errors(const Case& which);

/// The first line of what an exception says.
std::string first_line(const std::exception& error);

}  // namespace hopfield::bench
