// Whether the GPU gives the same bits every time. On the host, where blocks and threads run in an order of their own,
// the tests in the folder above say so.

#include "../pool_case.h"

#include <kernels/cuda/pool_workspace.h>

namespace hopfield::kernels::cuda {
namespace {

/// HOPFIELD_REPEATS, or a few.
int repeats() {
  const char* text = std::getenv("HOPFIELD_REPEATS");
  return text == nullptr ? 10 : std::atoi(text);
}

/// A call forward and backward, again and again into the same memory.
class Training {
 public:
  Training(const Sample& s, const PlainCall& p)
      : forward_(s, p),
        call_(forward_.call),
        rows_(static_cast<size_t>(call_.rows())),
        updates_(static_cast<size_t>(s.steps)),
        width_(static_cast<size_t>(s.width)),
        depth_(static_cast<size_t>(s.depth)),
        instance_bytes_(static_cast<size_t>(call_.keys * call_.stored.row) * hopfield::testing::size_of(s.type)),
        weights_(random_floats(rows_ * width_, 91)),
        instances_(instance_bytes_, kPoison),
        query_(rows_ * depth_, 0),
        beta_(rows_, 0),
        products_((updates_ + 1) * rows_ * width_, 0),
        states_(updates_ * rows_ * depth_, 0),
        workspace_bytes_(std::max(pool_workspace_size(call_), pool_backward_workspace_size(call_, gradients()))),
        workspace_(workspace_bytes_, kPoison) {
    for (const auto* array : results_) result_bytes_.push_back(array->download().size() * sizeof(float));
  }

  /// All that came out, as bits. What was not written holds NaN.
  std::vector<std::vector<uint32_t>> run() {
    for (size_t i = 0; i < results_.size(); ++i) poison(results_[i]->data(), result_bytes_[i]);
    poison(instances_.data(), instance_bytes_);
    poison(workspace_.data(), workspace_bytes_);
    require_success(pool_forward(call_, forward_.outputs(), workspace_.data(), nullptr));
    require_success(pool_backward(call_, gradients(), workspace_.data(), nullptr));
    std::vector<std::vector<uint32_t>> bits;
    for (const auto* array : results_) bits.push_back(bits_of(array->download()));
    bits.push_back(bits_of(instances_.download()));
    return bits;
  }

 private:
  static constexpr unsigned char kPoison = 0xFF;

  static void poison(void* memory, size_t bytes) { cuda::require_success(cudaMemset(memory, kPoison, bytes)); }
  static void require_success(const std::string& error) {
    if (!error.empty()) throw std::runtime_error(error);
  }
  template <class T>
  static std::vector<uint32_t> bits_of(const std::vector<T>& values) {
    std::vector<uint32_t> bits(values.size() * sizeof(T) / sizeof(uint32_t));
    if (!bits.empty()) std::memcpy(bits.data(), values.data(), bits.size() * sizeof(uint32_t));
    return bits;
  }

  Gradients gradients() const {
    Gradients g;
    g.output.data = weights_.data();
    g.saved = forward_.saved();
    g.steps = forward_.steps.data();
    g.stored = {instances_.data(), 0, 0, call_.stored.row};
    g.query.data = query_.data();
    g.beta = beta_.data();
    g.products = products_.data();
    g.states = states_.data();
    return g;
  }

  Device forward_;
  PoolCall call_;
  size_t rows_, updates_, width_, depth_, instance_bytes_;
  DeviceArray<float> weights_;
  DeviceArray<unsigned char> instances_;
  DeviceArray<float> query_, beta_, products_, states_;
  size_t workspace_bytes_;
  DeviceArray<unsigned char> workspace_;
  std::vector<const DeviceArray<float>*> results_{&forward_.output,
                                                  &forward_.state,
                                                  &forward_.logsumexp,
                                                  &forward_.residual,
                                                  &forward_.mass,
                                                  &forward_.scores,
                                                  &forward_.saved_states,
                                                  &forward_.saved_sums,
                                                  &forward_.saved_means,
                                                  &query_,
                                                  &beta_,
                                                  &products_,
                                                  &states_};
  std::vector<size_t> result_bytes_;
};

/// Bags streamed in several parts, bags in clusters of several sizes, heads and queries of two row groups.
TEST_F(Cuda, PoolGivesTheSameBitsEveryTime) {
  for (const auto type : {ElementType::bfloat16, ElementType::float32}) {
    for (const bool on_chip : {false, true}) {
      SCOPED_TRACE(std::string(type == ElementType::float32 ? "float32" : "bfloat16") + (on_chip ? ", on chip" : ""));
      Sample s;
      s.type = type;
      s.on_chip = on_chip;
      s.bags = {3 * kPoolPart + 17, 1, 700, 64, 0, 300, 150};
      s.heads = 4;
      s.queries = 5;
      s.width = 64;
      s.depth = 16;
      Training training(s, draw(s));
      const auto first = training.run();
      for (int i = 1; i < repeats(); ++i) ASSERT_TRUE(training.run() == first) << "repetition " << i;
    }
  }
}

}  // namespace
}  // namespace hopfield::kernels::cuda
