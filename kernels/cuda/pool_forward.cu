#include <kernels/cuda/launch.h>
#include <kernels/cuda/pool_association.h>
#include <kernels/cuda/pool_dispatch.h>
#include <kernels/cuda/pool_on_chip.h>

#include <algorithm>

namespace hopfield::kernels::cuda {
namespace {

/// A pass over the bags: update number `step`, or the read-out after all of them.
struct Pass {
  int64_t step;
  bool last;
};

HOPFIELD_DEVICE bool any_active(const PoolForward& f, const RowGroup& group, int64_t step) {
  for (int i = 0; i < group.count; ++i) {
    if (active(f, group.first + i, step)) return true;
  }
  return false;
}

/// The queries W^T xi of a group [16, padded width].
HOPFIELD_DEVICE float* queries_of(const PoolForward& f, const RowGroup& group) {
  const int64_t place = static_cast<int64_t>(group.bag) * pool_row_groups(f.call) + group.number;
  return f.work.queries + place * kPoolRows * pool_padded_width(f.call);
}

HOPFIELD_DEVICE void find_queries(const PoolForward& f, const RowGroup& group, const float* states) {
  float* queries = queries_of(f, group);
  const int padded_width = pool_padded_width(f.call);
  map_to_instances(f.call, group, {}, states,
                   [&](int i, int k, float value) { queries[i * padded_width + k] = value; });
}

/// Prepares the first pass: a block for each row group of all bags.
HOPFIELD_KERNEL void prepare(PoolForward f) {
  const int groups = pool_row_groups(f.call);
  const auto group = row_group(f.call, block_index().x / groups, block_index().x % groups);
  if (is_on_chip(f.work, group.bag)) return;
  clear_tickets(f.call, f.work, group);
  begin_rows(f, group, {});
  find_queries(f, group, f.work.states + group.first * f.call.depth);
}

/// Brings what the last part's block has merged to shared memory.
HOPFIELD_DEVICE Found collect(const PoolForward& f, const RowGroup& group, const Partials& total) {
  const int padded_width = pool_padded_width(f.call);
  float* memory = shared_memory<float>(kShared);
  const Found found{memory, memory + 3 * kPoolRows, memory + (3 + padded_width) * kPoolRows};
  for (int i = thread_index(); i < 3 * kPoolRows; i += block_size()) found.sums[i] = load_fresh(total.sums + i);
  sync_threads();
  for (int i = thread_index(); i < group.count * padded_width; i += block_size()) {
    found.means[i] = found.mean(i / padded_width, load_fresh(total.means + i));
  }
  sync_threads();
  return found;
}

/// A pass: a block for each part and row group. The block that finishes last in a bag updates the bag's rows.
template <class T, int most_tiles>
HOPFIELD_KERNEL void HOPFIELD_LAUNCH_BOUNDS(kPoolThreads, 2) pool_pass(PoolForward f, Pass pass) {
  const auto& call = f.call;
  const int groups = pool_row_groups(call), number = block_index().x / groups;
  if (number >= f.work.plan.first_part[call.batch]) return;
  const auto part = part_of_bag(call, f.work, number);
  const auto group = row_group(call, part.bag, block_index().x % groups);
  if (!pass.last && !any_active(f, group, pass.step)) return;
  using Work = Association<T, most_tiles>;
  constexpr int kStages = pool_stages<T, most_tiles>(1);
  const TileStream<T, Work::kRows> stream(call, part.first, part.count, 1, kStages);
  Work work(f, pass.last, group, part, stream, queries_of(f, group));
  stream.template run<kStages - 1>([&work](int tile) { work.take(tile); });
  work.store(partials(call, f.work, slot_of(call, f.work, part, part.number, group)),
             [](float* to, float value) { store_fresh(to, value); });
  if (!merge_bag(call, f.work, part, group)) return;
  const auto found = collect(f, group, partials(call, f.work, slot_of(call, f.work, part, 0, group)));
  if (pass.last) {
    write_results(f, group, {}, found);
  } else {
    update_rows(f, group, {}, found, pass.step);
    find_queries(f, group, found.states);
  }
}

/// Enqueues all passes of the bags that do not stay on chip.
template <class T, int most_tiles>
std::string stream_bags(const PoolForward& f, const OnChip& on_chip, Stream stream) {
  const auto& call = f.call;
  if (pool_largest_bag(call) <= on_chip.most_instances()) return {};
  const int64_t groups = pool_row_groups(call);
  auto error = launch(prepare, {{call.batch * groups, 1, 1}, kPoolThreads}, stream, f);
  if (!error.empty()) return error;
  // Bags that are streamed have more instances than those that stay on chip, which bounds their number.
  const auto bags = on_chip.sizes == 0 ? call.batch : std::min(call.batch, call.keys / (on_chip.most_instances() + 1));
  const auto parts = call.keys / kPoolPart + bags;
  const LaunchShape shape{{parts * groups, 1, 1}, kPoolThreads, streaming_shared_bytes<T, most_tiles>(call, 1)};
  for (int64_t step = 0; step <= call.most_steps; ++step) {
    const Pass pass{step, step == call.most_steps};
    error = launch(pool_pass<T, most_tiles>, shape, stream, f, pass);
    if (!error.empty()) return error;
  }
  return {};
}

/// Shared memory that a kernel needs to stream.
template <template <class> class Tiles>
size_t bytes_to_stream(const PoolCall& call, int sets) {
  return for_instances<Tiles>(
      call, [&](auto number, auto tiles) { return streaming_shared_bytes<decltype(number), tiles()>(call, sets); });
}

}  // namespace

std::string pool_reason_against(const PoolCall& call) {
  if (call.width > kPoolMostWidth) {
    return "the fused kernels of the GPU take instances of at most " + std::to_string(kPoolMostWidth) +
           " numbers, not " + std::to_string(call.width);
  }
  const auto needed = std::max({bytes_to_stream<PoolForwardTiles>(call, 1), bytes_to_stream<PoolBackwardTiles>(call, 2),
                                bytes_to_stream<PoolBackwardInstancesTiles>(call, 1)});
  const auto there = device_limits().shared_bytes;
  if (needed <= there) return {};
  return "instances of " + std::to_string(call.width) + " numbers and states of " + std::to_string(call.depth) +
         " take " + std::to_string(needed) + " bytes of shared memory, of which a block of this GPU has " +
         std::to_string(there);
}

int64_t pool_most_on_chip(const PoolCall& call) { return choose_on_chip(call).most_instances(); }

std::string pool_forward(const PoolCall& call, const Outputs& outputs, void* workspace, Stream stream) {
  if (call.rows() == 0) return {};
  PoolForward f{call, outputs, {}};
  cut_pool_workspace(call, workspace, f.work);
  const auto on_chip = choose_on_chip(call);
  auto error = plan_pool(call, f.work, on_chip, stream);
  if (error.empty()) error = pool_on_chip(f, on_chip, stream);
  if (!error.empty()) return error;
  return for_instances<PoolForwardTiles>(
      call, [&](auto number, auto tiles) { return stream_bags<decltype(number), tiles()>(f, on_chip, stream); });
}

}  // namespace hopfield::kernels::cuda
