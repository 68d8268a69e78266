#include "cuda_on_host/device.h"

#include "cuda_on_host/machine.h"

#include <cstring>

namespace hopfield::cuda_on_host {
namespace {

constexpr int kWarp = 32;
constexpr int kSpinsBeforeOthersRun = 1 << 10;
constexpr int kMostSpins = 1 << 22;
constexpr const char* kNamedBarrier = "a named barrier";
constexpr uint32_t kSharedBegin = 1024 + 128;

void sync(Barrier& barrier, const char* place, int expected) {
  await(barrier, place, arrive(barrier, place, expected, true), true);
}

void check_named(int barrier, int threads) {
  require(barrier >= 1 && barrier < 16, "a named barrier has a number from 1 to 15");
  require(threads > 0 && threads % kWarp == 0, "a named barrier counts whole warps of 32 threads");
}

}  // namespace

void note_spin() {
  auto& thread = current();
  const int spins = ++thread.spins;
  if (spins % kSpinsBeforeOthersRun != 0) return;
  if (spins >= kMostSpins) {
    fail("waits for what no running block writes: blocks run one after the other, on a device perhaps too");
  }
  wait(
      "load_fresh", [](const void*) { return true; }, nullptr);
  thread.spins = spins;
}

uint64_t arrive(Barrier& barrier, const char* place, int expected, bool orders_memory) {
  if (barrier.arrived == 0) {
    barrier.expected = expected, barrier.place = place;
  } else if (barrier.place != place && std::strcmp(barrier.place, place) != 0) {
    fail(std::string("some threads are at ") + barrier.place + " and this one is at " + place);
  } else if (barrier.expected != expected) {
    fail(std::string(place) + " was entered for " + std::to_string(barrier.expected) + " threads and for " +
         std::to_string(expected));
  }
  const auto round = barrier.round;
  if (orders_memory) barrier.moments[round % 2].release();
  if (++barrier.arrived == expected) barrier.arrived = 0, ++barrier.round;
  return round;
}

void await(Barrier& barrier, const char* place, uint64_t round, bool orders_memory) {
  wait_until(place, [&] { return barrier.round != round; });
  if (orders_memory) barrier.moments[round % 2].acquire();
}

unsigned char* shared_memory() { return current().block->shared; }

uint32_t shared_address(const void* pointer) {
  return kSharedBegin + static_cast<uint32_t>(static_cast<const unsigned char*>(pointer) - shared_memory());
}

unsigned char* at_shared_address(uint32_t address) {
  require(address >= kSharedBegin && address < kSharedBegin + cluster().shared_bytes,
          "an operand lies outside of the shared memory of the calling block");
  return shared_memory() + (address - kSharedBegin);
}

void require_shared(const void* address, size_t bytes, const char* sentence) {
  const auto* first = static_cast<const unsigned char*>(address);
  const auto* shared = shared_memory();
  require(first >= shared && first + bytes <= shared + cluster().shared_bytes, sentence);
}

void sync_threads() { sync(current().block->all, "sync_threads", position().threads); }

void sync_barrier(int barrier, int threads) {
  check_named(barrier, threads);
  sync(current().block->named[static_cast<size_t>(barrier)], kNamedBarrier, threads);
}

void arrive_barrier(int barrier, int threads) {
  check_named(barrier, threads);
  arrive(current().block->named[static_cast<size_t>(barrier)], kNamedBarrier, threads, true);
}

void sync_warp() { sync(current().warp->exchange, "sync_warp", kWarp); }

void sync_cluster() { sync(cluster().all, "cluster_sync", position().threads * position().cluster_size); }

void* peer_shared(const void* own, int rank) {
  require(rank >= 0 && rank < position().cluster_size, "a cluster has no block of this rank");
  require_shared(own, 1, "peer_shared needs an address in the shared memory of the calling block");
  return cluster().blocks[static_cast<size_t>(rank)].shared +
         (static_cast<const unsigned char*>(own) - shared_memory());
}

}  // namespace hopfield::cuda_on_host
