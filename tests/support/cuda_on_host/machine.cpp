#include "cuda_on_host/machine.h"

#include "cuda_on_host/arithmetic.h"
#include "cuda_on_host/launch.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <numeric>
#include <random>
#include <sstream>
#include <utility>

namespace hopfield::cuda_on_host {
namespace {

constexpr int kWarp = 32;
constexpr size_t kMostSharedBytes = 227 * 1024;
constexpr int64_t kMostThreads = 8000;  // the thread sanitizer cannot tell more of them apart

/// Thrown in a thread to end it, when the launch has failed in another one.
struct Abandoned {};

std::string text(const std::array<int, 3>& index) {
  return "(" + std::to_string(index[0]) + ", " + std::to_string(index[1]) + ", " + std::to_string(index[2]) + ")";
}

/// One launch.
class Machine {
 public:
  Machine(const Shape& shape, const std::function<void()>& kernel, uint64_t seed);

  std::string run();
  void fail(const std::string& sentence);
  [[noreturn]] void abandon() { throw Abandoned{}; }

  std::unique_ptr<Cluster> cluster;
  Thread* current = nullptr;
  bool abandoned = false;

 private:
  static void thread_body(void*);
  void prepare(int64_t cluster_index);
  void start_threads(size_t crew);
  void run_cluster();
  void unwind();
  void finish();
  std::string deadlock() const;

  const Shape shape_;
  const std::function<void()>& kernel_;
  std::mt19937_64 random_;
  const bool shuffled_;
  std::vector<int> order_;  // of threads
  Moment start_;
  Moment end_;
  std::string error_;
};

Machine* machine = nullptr;

uint64_t& order_seed() {
  static uint64_t seed = [] {
    const char* text = std::getenv("HOPFIELD_CUDA_ON_HOST_ORDER");
    return text ? std::strtoull(text, nullptr, 10) : 0;
  }();
  return seed;
}

/// Fibers that are kept from launch to launch.
Fiber& fiber(size_t index) {
  static std::deque<Fiber> all;
  while (all.size() <= index) all.emplace_back();
  return all[index];
}

/// The thread sanitizer takes the calls of one fiber for ordered. If the threads of a block ran on the fibers of the
/// block before, all that the two do would seem to be in order. New fibers for every block take too long, so blocks
/// that follow each other closely have different ones.
size_t crews(size_t threads) {
  if (!under_thread_sanitizer()) return 1;
  return threads <= 256 ? 4 : threads <= 1024 ? 2 : 1;
}

Machine::Machine(const Shape& shape, const std::function<void()>& kernel, uint64_t seed)
    : shape_(shape), kernel_(kernel), random_(seed), shuffled_(seed != 0) {
  const auto threads = static_cast<size_t>(shape.cluster * shape.block);
  order_.resize(threads);
  std::iota(order_.begin(), order_.end(), 0);
}

std::string Machine::run() {
  const auto count = shape_.grid[0] * shape_.grid[1] * shape_.grid[2] / shape_.cluster;
  std::vector<int64_t> clusters(static_cast<size_t>(count));
  std::iota(clusters.begin(), clusters.end(), 0);
  if (shuffled_) std::shuffle(clusters.begin(), clusters.end(), random_);
  start_.release();
  size_t crew = 0;
  for (const auto index : clusters) {
    prepare(index);
    start_threads(crew);
    crew = (crew + 1) % crews(order_.size());
    run_cluster();
    finish();
    if (!error_.empty()) break;
  }
  end_.acquire();
  return error_;
}

void Machine::prepare(int64_t cluster_index) {
  // All is allocated anew: with the memory, the thread sanitizer forgets an order between the threads before and these.
  cluster = std::make_unique<Cluster>();
  cluster->blocks.resize(static_cast<size_t>(shape_.cluster));
  cluster->threads.resize(order_.size());
  cluster->shared_bytes = shape_.shared_bytes;
  for (size_t rank = 0; rank < cluster->blocks.size(); ++rank) {
    auto& block = cluster->blocks[rank];
    const auto linear = cluster_index * shape_.cluster + static_cast<int64_t>(rank);
    block.rank = static_cast<int>(rank);
    block.running = static_cast<int>(shape_.block);
    block.index = {static_cast<int>(linear % shape_.grid[0]),
                   static_cast<int>(linear / shape_.grid[0] % shape_.grid[1]),
                   static_cast<int>(linear / (shape_.grid[0] * shape_.grid[1]))};
    block.warps.resize(static_cast<size_t>(shape_.block / kWarp));
    // As large as the launch asked for to the byte, so that the address sanitizer reports the first byte beyond.
    void* memory = nullptr;
    if (posix_memalign(&memory, 128, std::max<size_t>(shape_.shared_bytes, 1)) != 0) throw std::bad_alloc();
    block.shared = static_cast<unsigned char*>(memory);
    std::memset(block.shared, 0xFF, shape_.shared_bytes);
  }
}

void Machine::start_threads(size_t crew) {
  for (size_t i = 0; i < cluster->threads.size(); ++i) {
    auto& thread = cluster->threads[i];
    const auto index = static_cast<int>(i) % static_cast<int>(shape_.block);
    thread.block = &cluster->blocks[i / static_cast<size_t>(shape_.block)];
    thread.warp = &thread.block->warps[static_cast<size_t>(index / kWarp)];
    auto& position = thread.position;
    position.thread = index, position.threads = static_cast<int>(shape_.block);
    position.block = thread.block->index;
    for (size_t axis = 0; axis < 3; ++axis) position.grid[axis] = static_cast<int>(shape_.grid[axis]);
    position.cluster_rank = thread.block->rank, position.cluster_size = static_cast<int>(shape_.cluster);
    std::string name;
    if (under_thread_sanitizer()) name = "block " + text(position.block) + " thread " + std::to_string(index);
    thread.fiber = &fiber(crew * cluster->threads.size() + i);
    thread.fiber->start(&Machine::thread_body, &thread, name);
  }
  if (shuffled_) std::shuffle(order_.begin(), order_.end(), random_);
}

void Machine::thread_body(void*) {
  machine->start_.acquire();
  try {
    if (!machine->abandoned) machine->kernel_();
    require(cuda_on_host::current().warpgroup.products.empty(), "the thread has ended while a product was under way");
  } catch (const Abandoned&) {
  } catch (const std::exception& error) {
    machine->fail(error.what());
  } catch (...) {
    machine->fail("an exception that is no std::exception");
  }
  machine->end_.release();
}

void Machine::run_cluster() {
  size_t running = cluster->threads.size();
  while (running > 0) {
    bool progress = false;
    for (const int index : order_) {
      auto& thread = cluster->threads[static_cast<size_t>(index)];
      if (thread.fiber->ended() || (thread.waits_at && !thread.ready(thread.condition))) continue;
      progress = true;
      current = &thread;
      thread.fiber->resume();
      if (!error_.empty()) return unwind();
      if (!thread.fiber->ended()) continue;
      --running;
      // On the device another block may have this memory now, so peers may no longer access it.
      if (--thread.block->running == 0) std::memset(thread.block->shared, 0xFF, shape_.shared_bytes);
    }
    if (!progress) {
      error_ = deadlock();
      return unwind();
    }
  }
  for (const auto& [address, barrier] : cluster->memory_barriers) {
    if (barrier.copies.empty()) continue;
    error_ = "block " + text(cluster->blocks[0].index) + ": the block has ended while a bulk copy was under way";
  }
}

/// Ends the threads that wait, by an exception in each of them: so their destructors run and their stacks are unwound.
void Machine::unwind() {
  abandoned = true;
  for (auto& thread : cluster->threads) {
    if (thread.fiber->ended()) continue;
    current = &thread;
    thread.fiber->resume();
  }
}

void Machine::finish() {
  for (auto& block : cluster->blocks) std::free(block.shared);
}

void Machine::fail(const std::string& sentence) {
  Quiet quiet;
  if (!error_.empty()) return;
  error_ = "block " + text(current->position.block) + ", thread " + std::to_string(current->position.thread) + ": " +
           sentence;
}

std::string Machine::deadlock() const {
  std::ostringstream out;
  out << "no thread can go on";
  for (const auto& block : cluster->blocks) {
    std::map<std::string, std::vector<int>> places;
    for (const auto& thread : cluster->threads) {
      if (thread.block != &block) continue;
      places[thread.fiber->ended() ? "have ended" : std::string("wait at ") + thread.waits_at].push_back(
          thread.position.thread);
    }
    out << "; block " << text(block.index) << ":";
    const char* separator = " ";
    for (const auto& [place, threads] : places) {
      out << separator << threads.size() << " threads " << place << " (the first is thread " << threads.front() << ")";
      separator = ", ";
    }
  }
  return out.str();
}

std::string refusal(const Shape& shape) {
  const auto& grid = shape.grid;
  if (*std::min_element(grid.begin(), grid.end()) < 1) return "the grid is empty";
  if (grid[0] > INT32_MAX || grid[1] > 65535 || grid[2] > 65535)
    return "the grid is larger than 2^31 - 1 x 65535 x 65535";
  if (shape.block < 1 || shape.block > 1024 || shape.block % kWarp != 0) {
    return "a block needs 32 to 1024 threads, whole warps of 32, not " + std::to_string(shape.block);
  }
  if (shape.shared_bytes > kMostSharedBytes) {
    return std::to_string(shape.shared_bytes) + " bytes of shared memory are more than the " +
           std::to_string(kMostSharedBytes) + " of a block";
  }
  if (shape.cluster < 1 || shape.cluster > 16 || grid[0] % shape.cluster != 0) {
    return "a cluster needs 1 to 16 blocks and must divide the grid's first extent";
  }
  if (under_thread_sanitizer() && shape.cluster * shape.block > kMostThreads) {
    return "a cluster of more than " + std::to_string(kMostThreads) + " threads is too large for the thread sanitizer";
  }
  return {};
}

}  // namespace

std::string launch(const Shape& shape, const std::function<void()>& kernel) {
  static std::mutex one_at_a_time;
  const std::lock_guard<std::mutex> lock(one_at_a_time);
  if (auto error = arithmetic_refusal(); !error.empty()) return error;
  if (auto error = refusal(shape); !error.empty()) return error;
  const Quiet quiet;
  Machine here(shape, kernel, order_seed());
  machine = &here;
  auto error = here.run();
  machine = nullptr;
  return error;
}

uint64_t set_order(uint64_t seed) { return std::exchange(order_seed(), seed); }

Cluster& cluster() { return *machine->cluster; }
Thread& current() { return *machine->current; }
const Position& position() { return machine->current->position; }

void fail(const std::string& sentence) {
  machine->fail(sentence);
  machine->abandon();
}

void wait(const char* place, bool (*ready)(const void*), const void* condition) {
  if (machine->abandoned) machine->abandon();
  auto& thread = current();
  thread.waits_at = place, thread.ready = ready, thread.condition = condition;
  Fiber::pause();
  thread.waits_at = nullptr;
  thread.spins = 0;
  if (machine->abandoned) machine->abandon();
}

}  // namespace hopfield::cuda_on_host
