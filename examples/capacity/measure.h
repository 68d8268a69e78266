#pragma once

#include <hopfield/memory/memory.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace hopfield::capacity {

/// How much is measured.
struct Effort {
  int64_t networks = 20;  ///< of each size
  int64_t recalls = 100;  ///< from each network
  double scale = 1;       ///< of the numbers of patterns of the exponential memory and of single figures
  uint64_t seed = 0;
};

/// One number beside what the literature says of it.
struct Figure {
  std::string name;
  double measured, expected;
  double least, most;  ///< what is close enough
  bool holds() const { return measured > least - 1e-9 && measured < most + 1e-9; }
};

/// A curve: recall against load.
struct Curve {
  std::string name;
  std::vector<double> x, y;
  bool is_theory = false;
  bool is_of_last = true;  ///< whether a theory belongs to the curve before it
};

struct Panel {
  std::string title, x, y;
  std::vector<Curve> curves;
};

struct Measured {
  std::vector<Figure> figures;
  Panel panel;
};

Measured measure_binary(const Effort& effort);
Measured measure_polynomial(const Effort& effort);
Measured measure_exponential(const Effort& effort);
Measured measure_continuous(const Effort& effort);

}  // namespace hopfield::capacity
