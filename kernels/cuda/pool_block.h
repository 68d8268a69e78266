#pragma once

// What a block does before and after it works on its tiles: which queries and instances are its own, and how the sums
// of several blocks are merged.
//
// A pass is one association of all bags. A block of a pass works for a row group on a part of a bag.

#include <kernels/cuda/dropout.h>
#include <kernels/cuda/pool_tile.h>
#include <kernels/cuda/pool_workspace.h>

namespace hopfield::kernels::cuda {

/// Shared memory begins with the ticket of is_last_to_arrive(). Behind it, from this byte on, merging and finishing
/// have their arrays.
constexpr int kShared = 128;

/// Up to 16 queries of a bag, of any heads.
struct RowGroup {
  int bag, number;  ///< of the group in its bag
  int count;        ///< rows that exist
  int64_t first;    ///< row number of the first
};

HOPFIELD_DEVICE RowGroup row_group(const PoolCall& call, int bag, int number) {
  const auto rows = static_cast<int>(call.heads * call.queries);
  const int left = rows - number * kPoolRows;
  return {bag, number, left < kPoolRows ? left : kPoolRows, static_cast<int64_t>(bag) * rows + number * kPoolRows};
}

HOPFIELD_DEVICE int head_of(const PoolCall& call, int64_t row) {
  return static_cast<int>(row / call.queries % call.heads);
}

HOPFIELD_DEVICE float* floats(void* array) { return static_cast<float*>(array); }

/// A row's state before the first update.
HOPFIELD_DEVICE const float* first_state(const PoolCall& call, const RowGroup& group, int64_t row) {
  const auto in_bag = row - group.bag * call.heads * call.queries;
  return floats(call.state.data) + group.bag * call.state.batch + in_bag * call.depth;
}

/// The rows of a group that a block maps and updates: first, first + stride, ..  The blocks of a cluster share them
/// out; a block that streams has all.
struct Share {
  int first = 0, stride = 1;

  HOPFIELD_DEVICE int row(int number) const { return first + number * stride; }
  /// The row that is `further` rows of the share behind row `i`.
  HOPFIELD_DEVICE int row(int i, int further) const { return i + further * stride; }
  HOPFIELD_DEVICE int count(const RowGroup& group) const {
    return group.count > first ? (group.count - first + stride - 1) / stride : 0;
  }
};

/// Maps the states [16, depth] of a share's rows, in shared memory, to the space of the instances: W^T xi. Calls
/// `store(row, feature, value)`.
template <class Store>
HOPFIELD_DEVICE void map_to_instances(const PoolCall& call, const RowGroup& group, const Share& share,
                                      const float* states, const Store& store) {
  const int padded_width = pool_padded_width(call), depth = static_cast<int>(call.depth),
            width = static_cast<int>(call.width);
  for (int item = thread_index(); item < share.count(group) * padded_width; item += block_size()) {
    const int i = share.row(item / padded_width), k = item % padded_width;
    const float* weight = call.map.weight + static_cast<int64_t>(head_of(call, group.first + i)) * depth * width + k;
    const float* state = states + i * depth;
    float sum = 0.0f;
    HOPFIELD_UNROLL_BY(8)
    for (int j = 0; j < (k < width ? depth : 0); ++j) {
      sum = fused_multiply_add(weight[static_cast<int64_t>(j) * width], state[j], sum);
    }
    store(i, k, sum);
  }
}

/// Maps rows x [16, pitch] in the space of the instances to states: W x. One lane calls `store(row, j, head, value)`. A
/// warp finds four numbers of a state at once; one by one, it would wait for memory.
template <class Store>
HOPFIELD_DEVICE void map_to_states(const PoolCall& call, const RowGroup& group, const Share& share, const float* x,
                                   int64_t pitch, const Store& store) {
  const int depth = static_cast<int>(call.depth), width = static_cast<int>(call.width), fours = (depth + 3) / 4;
  for (int item = warp_index(); item < share.count(group) * fours; item += kPoolWarps) {
    const int i = share.row(item / fours), j = item % fours * 4, head = head_of(call, group.first + i);
    const float* weights[4];
    for (int u = 0; u < 4; ++u) {
      weights[u] = call.map.weight + (static_cast<int64_t>(head) * depth + (j + u < depth ? j + u : j)) * width;
    }
    float sums[4] = {};
    HOPFIELD_UNROLL_BY(2)
    for (int k = lane_index(); k < width; k += 32) {
      const float value = x[i * pitch + k];
      HOPFIELD_UNROLL
      for (int u = 0; u < 4; ++u) sums[u] = fused_multiply_add(weights[u][k], value, sums[u]);
    }
    HOPFIELD_UNROLL
    for (int u = 0; u < 4; ++u) {
      sums[u] = warp_sum(sums[u]);
      if (lane_index() == 0 && j + u < depth) store(i, j + u, head, sums[u]);
    }
  }
}

/// Called by one block of each row group before the first pass.
HOPFIELD_DEVICE void clear_tickets(const PoolCall& call, const PoolWorkspace& work, const RowGroup& group) {
  if (thread_index() != 0) return;
  const int groups = pool_row_groups(call);
  work.bag_tickets[static_cast<int64_t>(group.bag) * groups + group.number] = 0;
  for (int i = work.plan.first_group[group.bag]; i < work.plan.first_group[group.bag + 1]; ++i) {
    work.group_tickets[static_cast<int64_t>(i) * groups + group.number] = 0;
  }
}

HOPFIELD_DEVICE bool is_on_chip(const PoolWorkspace& work, int bag) {
  return work.plan.first_part[bag] == work.plan.first_part[bag + 1];
}

/// What a block found for 16 rows: their largest scores, the sums of exponentials relative to these, the same without
/// what dropout drops, and the sums of the weighted instances. Partials are merged in the order of the instances.
struct Partials {
  float* sums;   ///< largest, sum, kept [3, 16]
  float* means;  ///< [16, padded width]
};

HOPFIELD_DEVICE Partials partials(const PoolCall& call, const PoolWorkspace& work, int64_t slot) {
  return {work.partial_sums + slot * 3 * kPoolRows, work.partial_means + slot * kPoolRows * pool_padded_width(call)};
}

/// The factor by which a part's sums, which are relative to its own largest score, enter the sums of all parts,
/// relative to the `largest` of all. A part without instances has the largest score -inf and the sum 0. A part with a
/// score that is not a number has the sum NaN, and then this factor is NaN as well: all of the row's results show it.
HOPFIELD_DEVICE float merge_factor(float own_largest, float own_sum, float largest) {
  if (own_sum != own_sum) return own_sum;
  return own_largest == minus_infinity() ? 0.0f : rescaling(own_largest, largest);
}

/// Merges `count` partials, `stride` slots apart, into the first of them. Called by all threads of a block.
/// @param factors  shared memory [count + 3, 16]
HOPFIELD_DEVICE void merge_partials(const PoolCall& call, const PoolWorkspace& work, int64_t first, int64_t stride,
                                    int count, int rows, float* factors) {
  const auto total = partials(call, work, first);
  const int padded_width = pool_padded_width(call);
  if (thread_index() < rows) {
    const int row = thread_index();
    float largest = minus_infinity(), sum = 0.0f, kept = 0.0f;
    for (int i = 0; i < count; ++i) {
      const float other = load_fresh(partials(call, work, first + i * stride).sums + row);
      largest = other > largest ? other : largest;
    }
    for (int i = 0; i < count; ++i) {
      const float* sums = partials(call, work, first + i * stride).sums + row;
      const float own_sum = load_fresh(sums + kPoolRows);
      const float factor = merge_factor(load_fresh(sums), own_sum, largest);
      factors[i * kPoolRows + row] = factor;
      sum += factor == 0.0f ? 0.0f : factor * own_sum;
      kept += factor == 0.0f ? 0.0f : factor * load_fresh(sums + 2 * kPoolRows);
    }
    factors[count * kPoolRows + row] = largest;
    factors[(count + 1) * kPoolRows + row] = sum;
    factors[(count + 2) * kPoolRows + row] = kept;
  }
  sync_threads();
  for (int i = thread_index(); i < rows * padded_width; i += block_size()) {
    float sum = 0.0f;
    for (int j = 0; j < count; ++j) {
      const float factor = factors[j * kPoolRows + i / padded_width];
      if (factor != 0.0f)
        sum = fused_multiply_add(factor, load_fresh(partials(call, work, first + j * stride).means + i), sum);
    }
    store_fresh(total.means + i, sum);
  }
  if (thread_index() < rows) {
    for (int k = 0; k < 3; ++k) {
      store_fresh(total.sums + k * kPoolRows + thread_index(), factors[(count + k) * kPoolRows + thread_index()]);
    }
  }
  sync_threads();
}

/// The product of two vectors, found by a warp.
HOPFIELD_DEVICE float warp_product(const float* x, const float* y, int64_t width) {
  float sum = 0.0f;
  for (int64_t k = lane_index(); k < width; k += 32) sum = fused_multiply_add(x[k], y[k], sum);
  return warp_sum(sum);
}

/// The score of an instance, (y - shift) scale of its row in the tile, from the product of that row with a query whose
/// numbers add up to `row_sum`. The forward and the backward pass have to find the same bits: otherwise the weights
/// that the backward pass finds again would not add up to 1.
HOPFIELD_DEVICE float score_of(float beta, float product, float row_sum, float scale, float shift, float bias) {
  return beta * scale * (product - shift * row_sum) + bias;
}

/// Adds up `count` kinds of sums for 16 rows, of which each warp has a part: first over the lanes, then over the warps,
/// in their order.
template <int count>
class SumsOfWarps {
 public:
  /// @param memory  shared, [warps, count, 16]
  HOPFIELD_DEVICE explicit SumsOfWarps(float* memory) : memory_(memory) {}

  /// Called by the four lanes of a row.
  HOPFIELD_DEVICE void put(int row, const float (&parts)[count]) const {
    HOPFIELD_UNROLL
    for (int k = 0; k < count; ++k) {
      const float sum = quad_sum(parts[k]);
      if (lane_index() % 4 == 0) memory_[(warp_index() * count + k) * kPoolRows + row] = sum;
    }
  }

  /// The sum over the warps, after a sync_threads().
  HOPFIELD_DEVICE float total(int kind, int row) const {
    float sum = 0.0f;
    HOPFIELD_UNROLL
    for (int warp = 0; warp < kPoolWarps; ++warp) sum += memory_[(warp * count + kind) * kPoolRows + row];
    return sum;
  }

 private:
  float* const memory_;
};

/// What dropout multiplies an entry of the final association by.
HOPFIELD_DEVICE float dropout_factor(const PoolCall& call, const RowGroup& group, int row, int64_t key) {
  const auto number = group.first + row;
  return dropout_factor(call.seed, call.dropout, static_cast<int>(group.bag), static_cast<int>(head_of(call, number)),
                        static_cast<int>(number % call.queries), static_cast<int>(key));
}

/// Whether the calling block is the last of `count` to come here. It then sees what the others wrote before they came.
/// The last block resets the counter for the next pass.
HOPFIELD_DEVICE bool is_last_to_arrive(uint32_t* counter, int count) {
  auto* ticket = shared_memory<uint32_t>();
  sync_threads();
  if (thread_index() == 0) {
    *ticket = take_ticket(counter);
    if (*ticket == static_cast<uint32_t>(count) - 1) *counter = 0;
  }
  sync_threads();
  const bool last = *ticket == static_cast<uint32_t>(count) - 1;
  sync_threads();
  return last;
}

/// The instances of a bag that a block works on.
struct PartOfBag {
  int bag, number, parts;  ///< number of the part among the bag's parts
  int64_t bag_first, first, count;
};

/// Part number `part` of all bags, which exists.
HOPFIELD_DEVICE PartOfBag part_of_bag(const PoolCall& call, const PoolWorkspace& work, int part) {
  const int32_t* first_part = work.plan.first_part;
  int low = 0, high = static_cast<int>(call.batch);  // first_part[low] <= part < first_part[high]
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    (first_part[middle] <= part ? low : high) = middle;
  }
  PartOfBag result{low, part - first_part[low], first_part[low + 1] - first_part[low], call.offsets[low], 0, 0};
  result.first = result.bag_first + static_cast<int64_t>(result.number) * kPoolPart;
  const int64_t left = call.offsets[low + 1] - result.first;
  result.count = left < kPoolPart ? left : kPoolPart;
  return result;
}

/// The slot of the partials of a bag's part `number` and a row group.
HOPFIELD_DEVICE int64_t slot_of(const PoolCall& call, const PoolWorkspace& work, const PartOfBag& part, int number,
                                const RowGroup& group) {
  return (static_cast<int64_t>(work.plan.first_part[part.bag]) + number) * pool_row_groups(call) + group.number;
}

/// Called by a block that has stored its partials. The last block of a group of parts merges the group; the last of
/// those of a bag merges the groups, always in their order. Returns true in that block: the bag's sums are in its first
/// slot.
HOPFIELD_DEVICE bool merge_bag(const PoolCall& call, const PoolWorkspace& work, const PartOfBag& part,
                               const RowGroup& group) {
  const int groups = pool_row_groups(call), in_bag = part.number / kPoolGroup;
  const int part_groups = (part.parts + kPoolGroup - 1) / kPoolGroup, begin = in_bag * kPoolGroup;
  const int count = part.parts - begin < kPoolGroup ? part.parts - begin : kPoolGroup;
  const int64_t ticket = static_cast<int64_t>(work.plan.first_group[part.bag] + in_bag) * groups + group.number;
  if (!is_last_to_arrive(work.group_tickets + ticket, count)) return false;
  float* shared = shared_memory<float>(kShared);
  if (count > 1) {
    merge_partials(call, work, slot_of(call, work, part, begin, group), groups, count, group.count, shared);
  }
  auto* bag_ticket = work.bag_tickets + static_cast<int64_t>(part.bag) * groups + group.number;
  if (!is_last_to_arrive(bag_ticket, part_groups)) return false;
  // Groups are merged like parts, 32 at a time, until one is left.
  for (int64_t done = 1; done < part_groups; done *= kPoolGroup) {
    const int64_t left = (part_groups + done - 1) / done, stride = done * kPoolGroup;
    for (int64_t i = 0; i < left; i += kPoolGroup) {
      const auto together = static_cast<int>(left - i < kPoolGroup ? left - i : kPoolGroup);
      if (together == 1) continue;
      const auto first = slot_of(call, work, part, static_cast<int>(i * stride), group);
      merge_partials(call, work, first, stride * groups, together, group.count, shared);
    }
  }
  return true;
}

}  // namespace hopfield::kernels::cuda
