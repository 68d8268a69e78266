// Whether retrieval on the GPU gives the same bits every time; see repeat_test.cu.

#include "../drawing.h"

#include <kernels/cuda/retrieve.h>

#include <map>

namespace hopfield::kernels::cuda {
namespace {

constexpr unsigned char kPoison = 0xFF;

/// HOPFIELD_REPEATS, or a few.
int repeats() {
  const char* text = std::getenv("HOPFIELD_REPEATS");
  return text == nullptr ? 10 : std::atoi(text);
}

/// What is retrieved from what. Everything contiguous.
struct Shape {
  int64_t batch = 3, heads = 2, queries = 130, keys = 130, depth = 32, width = 24, steps = 3;
  bool self = false;    ///< the patterns are the queries
  bool shared = false;  ///< by the batch
  std::vector<int64_t> bags;
  float eps = 0.0f;

  int64_t rows() const { return batch * heads * queries; }
  int64_t all_keys() const {
    int64_t sum = 0;
    for (const auto size : bags) sum += size;
    return bags.empty() ? keys : sum;
  }
  /// Rows of patterns that there are.
  int64_t patterns() const { return (bags.empty() && !shared ? batch : 1) * heads * all_keys(); }
};

/// A call and its gradients, again and again into the same memory.
class Retrieving {
 public:
  Retrieving(const Shape& shape, ElementType type, bool plain)
      : shape_(shape),
        size_(hopfield::testing::size_of(type)),
        state_(numbers(shape.rows() * shape.depth, 1, type)),
        stored_(numbers(shape.patterns() * shape.depth, 2, type)),
        values_(numbers(shape.patterns() * shape.width, 3, type)),
        gradient_(numbers(shape.rows() * shape.width, 5, type)),
        key_bias_(random_floats(static_cast<size_t>(shape.all_keys()), 4)),
        offsets_(offsets_of(shape.bags)),
        steps_max_(static_cast<size_t>(shape.heads), shape.steps),
        beta_(static_cast<size_t>(shape.heads), 0.3f),
        eps_(static_cast<size_t>(shape.heads), shape.eps) {
    set_call(type, plain);
    const auto rows = static_cast<size_t>(shape.rows()), depth = static_cast<size_t>(shape.depth),
               width = static_cast<size_t>(shape.width), steps = static_cast<size_t>(shape.steps);
    add("output", rows * width * size_);
    add("state", rows * depth * size_);
    add("logsumexp", rows * sizeof(float));
    add("residual", rows * sizeof(float));
    add("steps", rows * sizeof(int64_t));
    add("converged", rows);
    add("workspace", retrieve_workspace_size(call_));
    const auto saved_row = static_cast<size_t>(retrieve_saved_row(call_));
    add("saved states", steps * rows * saved_row * size_);
    add("rounding error of saved states", steps * rows * saved_row * size_);
    add("saved sums", (steps + 1) * rows * 2 * sizeof(float));
    add("workspace of backward", retrieve_backward_workspace_size(call_));
    add("gradient of the states", rows * depth * size_);
    add("gradient of beta", rows * sizeof(float));
    const auto form = pattern_gradient_form(call_);
    const auto patterns = static_cast<size_t>(form.parts * (form.all_batch || !shape.bags.empty() ? 1 : shape.batch) *
                                              (form.all_heads ? 1 : shape.heads) * shape.all_keys());
    const auto size = form.parts > 1 ? sizeof(float) : size_;
    add("gradient of the stored patterns", patterns * depth * size);
    add("gradient of the values", patterns * width * size);
  }

  using Bits = std::map<std::string, std::vector<unsigned char>>;

  /// All that came out. What was not written holds NaN.
  Bits run() {
    for (const auto& [name, memory] : results_) {
      cuda::require_success(cudaMemset(memory.array.data(), kPoison, memory.bytes));
    }
    const auto sets = rows_of_part();
    auto error = retrieve_forward(call_, outputs(), result<void>("workspace"), nullptr);
    if (error.empty()) {
      error = retrieve_backward(call_, gradients(), {sets * shape_.depth, sets * shape_.width},
                                result<void>("workspace of backward"), nullptr);
    }
    if (!error.empty()) throw std::runtime_error(error);
    Bits bits;
    for (const auto& [name, memory] : results_) bits[name] = memory.array.download();
    return bits;
  }

 private:
  struct Memory {
    explicit Memory(size_t count) : bytes(count), array(count, kPoison) {}
    size_t bytes;
    DeviceArray<unsigned char> array;
  };

  static DeviceArray<unsigned char> numbers(int64_t count, uint32_t seed, ElementType type) {
    return DeviceArray<unsigned char>(hopfield::testing::to_type(random_doubles(count, seed), type));
  }

  void add(const std::string& name, size_t bytes) { results_.emplace(name, Memory(bytes)); }
  template <class T>
  T* result(const std::string& name) const {
    return reinterpret_cast<T*>(results_.at(name).array.data());
  }

  void set_call(ElementType type, bool plain) {
    const auto& s = shape_;
    const bool ragged = !s.bags.empty();
    const auto patterns = [&](const DeviceArray<unsigned char>& array, int64_t width) {
      if (ragged) return Strided{array.data(), 0, width, s.heads * width};
      return Strided{array.data(), s.shared ? 0 : s.heads * s.keys * width, s.keys * width, width};
    };
    auto& c = call_;
    c.batch = s.batch;
    c.heads = s.heads;
    c.queries = s.queries;
    c.keys = s.all_keys();
    c.depth = s.depth;
    c.width = s.self ? s.depth : s.width;
    c.state = {state_.data(), s.heads * s.queries * s.depth, s.queries * s.depth, s.depth};
    c.stored = patterns(s.self ? state_ : stored_, s.depth);
    if (!s.self) c.values = patterns(values_, s.width);
    if (ragged) c.offsets = offsets_.data();
    if (!s.self) c.key_bias = key_bias_.data();
    c.beta = beta_.data();
    c.steps_max = steps_max_.data();
    c.eps = eps_.data();
    c.most_steps = s.steps;
    c.type = type;
    c.plain_float32 = plain;
    c.exact_states = s.eps > 0;
  }

  /// Results lie in memory as [batch, queries, heads, width].
  Strided rows_of(const std::string& name, int64_t width) const {
    const auto& s = shape_;
    return {result<void>(name), s.queries * s.heads * width, width, s.heads * width};
  }

  Outputs outputs() const {
    Outputs out;
    out.output = rows_of("output", call_.width);
    out.state = rows_of("state", call_.depth);
    out.logsumexp = result<float>("logsumexp");
    out.residual = result<float>("residual");
    out.steps = result<int64_t>("steps");
    out.converged = result<bool>("converged");
    out.saved.states = result<void>("saved states");
    if (call_.exact_states) out.saved.rounding_error = result<void>("rounding error of saved states");
    out.saved.sums = result<float>("saved sums");
    return out;
  }

  /// Rows of patterns in a part of their gradient.
  int64_t rows_of_part() const {
    const auto form = pattern_gradient_form(call_);
    return (form.all_batch || call_.is_ragged() ? 1 : shape_.batch) * (form.all_heads ? 1 : shape_.heads) * call_.keys;
  }

  Gradients gradients() const {
    const auto& s = shape_;
    const auto form = pattern_gradient_form(call_);
    const int64_t heads = form.all_heads ? 1 : s.heads;
    const auto patterns = [&](const std::string& name, int64_t width) {
      if (!s.bags.empty()) return Strided{result<void>(name), 0, width, heads * width};
      return Strided{result<void>(name), form.all_batch ? 0 : heads * s.keys * width, s.keys * width, width};
    };
    Gradients g;
    g.output = {gradient_.data(), s.heads * s.queries * call_.width, s.queries * call_.width, call_.width};
    g.saved = outputs().saved;
    g.steps = result<int64_t>("steps");
    g.query = rows_of("gradient of the states", s.depth);
    g.beta = result<float>("gradient of beta");
    g.stored = patterns("gradient of the stored patterns", s.depth);
    if (!s.self) g.values = patterns("gradient of the values", s.width);
    return g;
  }

  Shape shape_;
  size_t size_;
  RetrieveCall call_;
  DeviceArray<unsigned char> state_, stored_, values_, gradient_;
  DeviceArray<float> key_bias_;
  DeviceArray<int64_t> offsets_, steps_max_;
  DeviceArray<float> beta_, eps_;
  std::map<std::string, Memory> results_;
};

void expect_the_same_bits(const Shape& shape) {
  for (const auto& [type, plain] : {std::pair{ElementType::bfloat16, false},
                                    {ElementType::float16, false},
                                    {ElementType::float32, false},
                                    {ElementType::float32, true}}) {
    SCOPED_TRACE("type " + std::to_string(static_cast<int>(type)) + (plain ? ", without tensor cores" : ""));
    Retrieving retrieving(shape, type, plain);
    const auto first = retrieving.run();
    for (int i = 1; i < repeats(); ++i) {
      const auto again = retrieving.run();
      for (const auto& [name, bits] : first) {
        ASSERT_TRUE(again.at(name) == bits) << name << ", repetition " << i;
      }
    }
  }
}

TEST_F(Cuda, RetrieveSelfAssociationThatStopsEarlyGivesTheSameBitsEveryTime) {
  Shape shape;
  shape.self = true;
  shape.width = shape.depth;
  shape.steps = 6;
  shape.eps = 0.05f;
  expect_the_same_bits(shape);
}

TEST_F(Cuda, RetrieveFromSharedPatternsGivesTheSameBitsEveryTime) {
  Shape shape;
  shape.batch = 40;
  shape.queries = 11;
  shape.shared = true;
  expect_the_same_bits(shape);
}

TEST_F(Cuda, RetrieveFromRaggedPatternsGivesTheSameBitsEveryTime) {
  Shape shape;
  shape.bags = {700, 0, 3, 130, 64};
  shape.batch = static_cast<int64_t>(shape.bags.size());
  shape.queries = 20;
  expect_the_same_bits(shape);
}

}  // namespace
}  // namespace hopfield::kernels::cuda
