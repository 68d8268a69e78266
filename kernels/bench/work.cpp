#include "kernels/bench/setup.h"

#include <memory>

namespace hopfield::bench {

Work library_work(const Case& which) {
  const auto setup = std::make_shared<Setup>(which);
  return {[setup] { setup->run([&] { return library_forward(*setup); }); }, setup->input_bytes()};
}

Work sdpa_work(const Case& which) {
  const auto setup = std::make_shared<Setup>(which);
  return {[setup] { setup->run([&] { return sdpa_forward(*setup); }); }, setup->input_bytes()};
}

}  // namespace hopfield::bench
