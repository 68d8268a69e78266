#pragma once

#include "kernels/bench/case.h"

#include <array>
#include <memory>
#include <string>
#include <vector>

namespace hopfield::bench {

struct Setup;

/// The backends of LibTorch's scaled_dot_product_attention.
constexpr std::array<const char*, 4> kPeers{"flash", "efficient", "math", "cudnn"};

/// One implementation that is timed on a case.
struct Contender {
  std::string name;  ///< "hopfield", or the only backend that scaled_dot_product_attention may use
  std::function<void()> run;
  std::string refusal;  ///< why it cannot be run; empty if it can
};

/// A case that the library and LibTorch's attention compute in turn, with the same weights and inputs.
class Contest {
 public:
  /// @param peers        of kPeers, the backends of LibTorch's attention to compare with
  /// @param cache_bytes  size of the device's cache. Successive calls get different inputs, enough of them that they do
  ///                     not stay in the cache.
  Contest(const Case& which, const std::vector<std::string>& peers, int64_t cache_bytes);

  /// The library comes first. If it has a refusal, that says why its kernels do not serve the op.
  std::vector<Contender> contenders;
  void drop_gradients();
  int64_t input_count() const;
  bool inputs_exceed_cache() const { return inputs_exceed_cache_; }

  /// How the library pools, in a sentence. Empty if the case is not a pooling.
  std::string form() const { return form_; }
  /// The bytes of instances that a call of the library has to read and write. 0 if the case is not a pooling.
  int64_t bytes_moved() const;

 private:
  void add_peers(const std::vector<std::string>& names);

  std::shared_ptr<Setup> setup_;
  std::string form_;
  bool inputs_exceed_cache_ = false;
};

/// Largest errors relative to the largest number of a result, over the output and, in training, the gradients of
/// inputs.
struct Errors {
  double hopfield;  ///< of the library
  double math;      ///< of LibTorch's attention with its math backend, which uses plain operations
};

/// Compares both with LibTorch operations in float64 on the same data and weights, which are larger than fresh ones.
Errors largest_errors(const Case& which);

/// The first line of what an exception says.
std::string first_line(const std::exception& error);

}  // namespace hopfield::bench
