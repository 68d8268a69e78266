#include "cuda_on_host/async_copy.h"

#include "cuda_on_host/machine.h"

namespace hopfield::cuda_on_host {
namespace {

MemoryBarrier& find(const uint64_t* barrier) {
  auto& known = cluster().memory_barriers;
  const auto found = known.find(barrier);
  if (found == known.end()) fail("a memory barrier was used before it was initialised");
  return found->second;
}

void finish_phase_if_complete(MemoryBarrier& barrier) {
  if (barrier.pending > 0 || barrier.bytes > 0) return;
  barrier.pending = barrier.count;
  ++barrier.phase;
}

bool phase_over(const MemoryBarrier& barrier, int parity) { return barrier.phase % 2 != static_cast<uint64_t>(parity); }

/// A copy counts as under way as long as a thread can still arrive at its barrier.
bool copies_due(const MemoryBarrier& barrier) { return barrier.pending == 0 && !barrier.copies.empty(); }

}  // namespace

void queue(const AsyncCopy& copy) {
  const Quiet quiet;
  auto& thread = current();
  thread.copies.push_back(copy);
  thread.copies.back().group = thread.committed_groups;
}

void commit_copies() { ++current().committed_groups; }

bool take_copy(int pending, AsyncCopy& copy) {
  const Quiet quiet;
  auto& thread = current();
  if (thread.copies.empty() || thread.copies.front().group >= thread.committed_groups - pending) return false;
  copy = thread.copies.front();
  thread.copies.erase(thread.copies.begin());
  return true;
}

void register_memory_barrier(uint64_t* barrier, int count) {
  require(count > 0, "a memory barrier needs at least one arrival");
  const Quiet quiet;
  auto& state = cluster().memory_barriers[barrier];
  state = MemoryBarrier{};
  state.count = state.pending = count;
}

void arrive_memory_barrier(uint64_t* barrier, uint32_t expected_bytes) {
  auto& state = find(barrier);
  require(state.pending > 0, "a memory barrier got more arrivals than it was initialised for");
  state.moments[state.phase % 2].release();
  state.bytes += expected_bytes;
  --state.pending;
  finish_phase_if_complete(state);
}

void queue_bulk(void* shared, const unsigned char* data, uint32_t bytes, uint64_t* barrier) {
  const Quiet quiet;
  auto issued = std::make_unique<Moment>();
  issued->release();
  find(barrier).copies.push_back({static_cast<unsigned char*>(shared), {data, data + bytes}, std::move(issued)});
}

bool await_memory_barrier(uint64_t* barrier, int parity) {
  auto& state = find(barrier);
  wait_until("a memory barrier", [&] { return phase_over(state, parity) || copies_due(state); });
  if (!phase_over(state, parity)) return false;
  state.moments[static_cast<size_t>(parity)].acquire();
  return true;
}

BulkPart begin_bulk(uint64_t* barrier) {
  auto& copy = find(barrier).copies.front();
  copy.issued->acquire();
  return {copy.target, copy.data.data(), copy.data.size()};
}

void end_bulk(uint64_t* barrier) {
  const Quiet quiet;
  auto& state = find(barrier);
  state.bytes -= static_cast<int64_t>(state.copies.front().data.size());
  state.copies.pop_front();
  require(state.bytes >= 0, "a bulk copy brought more bytes than its memory barrier expected");
  state.moments[state.phase % 2].release();
  finish_phase_if_complete(state);
}

}  // namespace hopfield::cuda_on_host
