#include <hopfield/hopfield.h>

#include <iostream>

int main() {
  hopfield::nn::HopfieldPooling pool(hopfield::nn::HopfieldPoolingOptions(4).num_heads(2));
  const auto out = pool->forward(at::ones({3, 5, 4}));
  std::cout << "hopfield " << hopfield::version() << ": " << out.sizes() << "\n";
  return out.size(0) == 3 && out.size(1) == 4 ? 0 : 1;
}
