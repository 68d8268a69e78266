#include <kernels/cuda/cluster.h>
#include <kernels/cuda/launch.h>
#include <kernels/cuda/pool_association.h>
#include <kernels/cuda/pool_dispatch.h>
#include <kernels/cuda/pool_on_chip.h>

#include <algorithm>

namespace hopfield::kernels::cuda {
namespace {

/// Shared memory of a block, in bytes from its beginning: a slice of the bag with what its products need, and what the
/// blocks of the cluster tell each other. The partial means lie where the queries are during the association.
template <class T, int rows>
struct OnChipShared {
  PoolShared<T, rows> slice;
  int partial_means, partial_sums, factors, moving, found_sums, states;
  /// For the rows of the block's share the mean instances. They are then overwritten, row by row, with the next
  /// queries, and so are all other rows, by the blocks that have them in their share.
  int means;
  int total;

  HOPFIELD_DEVICE constexpr OnChipShared(int padded_width, int depth, int stages)
      : slice(padded_width, 1, stages),
        partial_means(slice.sets),
        partial_sums(slice.total),
        factors(partial_sums + 4 * 3 * kPoolRows),
        moving(factors + 4 * kPoolRows * kPoolMostCluster),
        found_sums(moving + 4 * kPoolRows),
        states(found_sums + 4 * 3 * kPoolRows),
        means(states + 4 * kPoolRows * depth),
        total(means + 4 * kPoolRows * padded_width) {}
};

/// The work of a cluster for a row group of a bag. Each block has a slice of the instances. Between two associations,
/// it updates its share of the rows: every cluster_size()-th.
template <class T, int most_tiles>
class ClusterWork {
 public:
  using Work = Association<T, most_tiles>;

  HOPFIELD_DEVICE ClusterWork(const PoolForward& f, int bag, int number, int stages)
      : f_(f),
        group_(row_group(f.call, bag, number)),
        share_{cluster_rank(), cluster_size()},
        slice_(slice_of(f.call, bag)),
        stream_(f.call, slice_.first, slice_.count, 1, stages),
        at_(stream_.padded_width(), static_cast<int>(f.call.depth), stages),
        found_{shared_memory<float>(at_.found_sums), shared_memory<float>(at_.means),
               shared_memory<float>(at_.states)} {}

  HOPFIELD_DEVICE void run() {
    begin_rows(f_, group_, share_);
    tell_queries(f_.work.states + group_.first * f_.call.depth);
    tell_moving(0);
    cluster_sync();
    for (int64_t step = 0;; ++step) {
      const bool last = !any_moving();
      associate(step == 0, last);
      cluster_sync();
      collect();
      if (last) break;
      update_rows(f_, group_, share_, found_, step);
      tell_queries(found_.states);
      tell_moving(step + 1);
      cluster_sync();
    }
    write_results(f_, group_, share_, found_);
    cluster_sync();  // other blocks may still read this block's sums
  }

 private:
  HOPFIELD_DEVICE static PartOfBag slice_of(const PoolCall& call, int bag) {
    const int64_t first = call.offsets[bag], count = call.offsets[bag + 1] - first;
    const int64_t each = (count + cluster_size() - 1) / cluster_size();
    const int64_t begin = std::min(each * cluster_rank(), count), end = std::min(begin + each, count);
    return {bag, cluster_rank(), cluster_size(), first, first + begin, end - begin};
  }

  HOPFIELD_DEVICE Partials own_partials() const {
    return {shared_memory<float>(at_.partial_sums), shared_memory<float>(at_.partial_means)};
  }
  HOPFIELD_DEVICE int* moving() const { return shared_memory<int>(at_.moving); }

  /// Tells all blocks the queries of the next association, for the rows of the share.
  HOPFIELD_DEVICE void tell_queries(const float* states) const {
    const int padded_width = stream_.padded_width();
    map_to_instances(f_.call, group_, share_, states, [&](int i, int k, float value) {
      for (int rank = 0; rank < cluster_size(); ++rank) *peer_shared(found_.means + i * padded_width + k, rank) = value;
    });
  }

  /// Tells all blocks which rows of the share take update `step`.
  HOPFIELD_DEVICE void tell_moving(int64_t step) const {
    for (int item = thread_index(); item < share_.count(group_) * cluster_size(); item += block_size()) {
      const int i = share_.row(item / cluster_size());
      *peer_shared(moving() + i, item % cluster_size()) = active(f_, group_.first + i, step) ? 1 : 0;
    }
  }
  HOPFIELD_DEVICE bool any_moving() const {
    for (int i = 0; i < group_.count; ++i) {
      if (moving()[i] != 0) return true;
    }
    return false;
  }

  /// Associates the row group with the slice, and leaves the partials in this block's shared memory.
  HOPFIELD_DEVICE void associate(bool first, bool last) {
    Work work(f_, last, group_, slice_, stream_, found_.means);
    if (first) {
      stream_.template run<kAhead>([&work](int tile) { work.take(tile); });
    } else {
      stream_.run_again([&work](int tile) { work.take(tile); });
    }
    work.store(own_partials(), [](float* to, float value) { *to = value; });
  }

  /// Merges the partials of all slices for the rows of the share, in the order of ranks.
  HOPFIELD_DEVICE void collect() const {
    const auto own = own_partials();
    const int padded_width = stream_.padded_width(), rank = lane_index() < cluster_size() ? lane_index() : 0;
    float* factors = shared_memory<float>(at_.factors);  // [16, ranks]
    for (int i = share_.row(warp_index()); i < group_.count; i = share_.row(i, kPoolWarps)) {
      const float* sums = peer_shared(own.sums + i, rank);
      const float own_largest = lane_index() < cluster_size() ? sums[0] : minus_infinity();
      const float own_sum = lane_index() < cluster_size() ? sums[kPoolRows] : 0.0f;
      const float largest = warp_max(own_largest);
      const float factor = merge_factor(own_largest, own_sum, largest);
      const float sum = warp_sum(factor == 0.0f ? 0.0f : factor * own_sum);
      const float kept = warp_sum(factor == 0.0f ? 0.0f : factor * sums[2 * kPoolRows]);
      if (lane_index() < kPoolMostCluster) factors[i * kPoolMostCluster + lane_index()] = factor;
      if (lane_index() == 0) {
        found_.sums[i] = largest;
        found_.sums[kPoolRows + i] = sum;
        found_.sums[2 * kPoolRows + i] = kept;
      }
    }
    sync_threads();
    for (int item = thread_index(); item < share_.count(group_) * padded_width; item += block_size()) {
      const int i = share_.row(item / padded_width), at = i * padded_width + item % padded_width;
      float total = 0.0f;
      HOPFIELD_UNROLL_BY(4)
      for (int r = 0; r < cluster_size(); ++r) {
        const float factor = factors[i * kPoolMostCluster + r];
        const float mean = *peer_shared(own.means + at, r);
        if (factor != 0.0f) total = fused_multiply_add(factor, mean, total);
      }
      found_.means[at] = found_.mean(i, total);
    }
    sync_threads();
  }

  static constexpr int kAhead = 3;  ///< tiles under way during the first association

  const PoolForward& f_;
  const RowGroup group_;
  const Share share_;
  const PartOfBag slice_;
  const TileStream<T, Work::kRows> stream_;
  const OnChipShared<T, Work::kRows> at_;
  const Found found_;
};

/// Takes bags through all steps: a cluster for each row group of each bag that the plan lists for clusters of this
/// size.
template <class T, int most_tiles>
HOPFIELD_KERNEL void HOPFIELD_LAUNCH_BOUNDS(kPoolThreads, 2) pool_bags_on_chip(PoolForward f, int size, int stages) {
  const int groups = pool_row_groups(f.call), number = block_index().x / cluster_size(), place = number / groups;
  if (place >= f.work.plan.on_chip_counts[size]) return;
  const int bag = f.work.plan.on_chip_bags[size * f.call.batch + place];
  ClusterWork<T, most_tiles>(f, bag, number % groups, stages).run();
}

template <class T, int most_tiles>
LaunchShape shape_of(const PoolCall& call, int64_t clusters, int size, int64_t stages) {
  constexpr int kRows = kTileRows<T, most_tiles>;
  const OnChipShared<T, kRows> shared(pool_padded_width(call), static_cast<int>(call.depth), static_cast<int>(stages));
  return {{clusters << size, 1, 1}, kPoolThreads, static_cast<size_t>(shared.total), int64_t{1} << size};
}

int64_t ceil_of(int64_t count, int64_t by) { return (count + by - 1) / by; }

template <class T, int most_tiles>
OnChip choose(const PoolCall& call) {
  constexpr int64_t kRows = kTileRows<T, most_tiles>;
  const auto limits = device_limits();
  const auto bytes = [&](int64_t stages) { return shape_of<T, most_tiles>(call, 1, 0, stages).shared_bytes; };
  const auto fixed = bytes(0), tile = bytes(1) - fixed;
  // Two blocks to a multiprocessor, so that one loads while the other computes. But only one where each of two would
  // have memory for a single tile, or none.
  const auto half = limits.multiprocessor_shared_bytes / 2 - limits.reserved_shared_bytes;
  const auto tiles_in = [&](size_t padded_width) {
    return padded_width > fixed ? static_cast<int64_t>((padded_width - fixed) / tile) : 0;
  };
  auto tiles = tiles_in(std::min(half, limits.shared_bytes));
  if (tiles < 2) tiles = tiles_in(limits.shared_bytes);
  if (call.most_slice_tiles > 0) tiles = std::min(tiles, call.most_slice_tiles);
  OnChip result;
  result.slice_rows = tiles * kRows;
  const auto most = std::min(limits.cluster, call.most_cluster);
  while (tiles > 0 && result.sizes < kPoolClusterSizes && int64_t{1} << result.sizes <= most) {
    const auto shape = shape_of<T, most_tiles>(call, 1, result.sizes, tiles);
    // Not every device can run clusters of more than 8 blocks.
    if (shape.cluster > 8 && !cluster_fits(pool_bags_on_chip<T, most_tiles>, shape)) break;
    ++result.sizes;
  }
  return result;
}

template <class T, int most_tiles>
std::string run(const PoolForward& f, const OnChip& on_chip, Stream stream) {
  const auto& call = f.call;
  const int64_t groups = pool_row_groups(call), largest = pool_largest_bag(call);
  for (int size = 0; size < on_chip.sizes; ++size) {
    const auto least = size == 0 ? 0 : on_chip.most(size - 1) + 1, most = std::min(on_chip.most(size), largest);
    if (least > largest || call.smallest_bag > on_chip.most(size)) continue;
    const auto bags = least == 0 ? call.batch : std::min(call.batch, call.keys / least);
    const auto stages = std::max<int64_t>(1, ceil_of(ceil_of(most, int64_t{1} << size), kTileRows<T, most_tiles>));
    const auto shape = shape_of<T, most_tiles>(call, bags * groups, size, stages);
    auto error = launch(pool_bags_on_chip<T, most_tiles>, shape, stream, f, size, static_cast<int>(stages));
    if (!error.empty()) return error;
  }
  return {};
}

}  // namespace

OnChip choose_on_chip(const PoolCall& call) {
  return for_instances<PoolForwardTiles>(
      call, [&](auto number, auto tiles) { return choose<decltype(number), tiles()>(call); });
}

std::string pool_on_chip(const PoolForward& f, const OnChip& on_chip, Stream stream) {
  return for_instances<PoolForwardTiles>(
      f.call, [&](auto number, auto tiles) { return run<decltype(number), tiles()>(f, on_chip, stream); });
}

}  // namespace hopfield::kernels::cuda
