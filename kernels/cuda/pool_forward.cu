#include <kernels/cuda/pool_tile.h>
#include <kernels/cuda/pool_workspace.h>
#include <kernels/philox.h>

namespace hopfield::kernels::cuda {
namespace {

/// Where merging and finishing find room in shared memory, behind a ticket.
constexpr int kShared = 128;

/// Everything a kernel gets.
struct Forward {
  PoolCall call;
  PoolOutputs out;
  PoolWorkspace work;
};

/// One pass over the bags: update number `step`, or the read-out after all of them.
struct Pass {
  int64_t step;
  bool last;
};

/// What a block works on: 16 queries of a bag.
struct RowGroup {
  int bag, number;  ///< of the group in its bag
  int count;        ///< rows that exist
  int64_t first;    ///< row number of the first
};

HOPFIELD_DEVICE int row_groups(const PoolCall& call) {
  return static_cast<int>((call.heads * call.queries + kPoolRows - 1) / kPoolRows);
}

HOPFIELD_DEVICE int room_of(const PoolCall& call) { return static_cast<int>((call.width + 63) / 64 * 64); }

HOPFIELD_DEVICE RowGroup row_group(const PoolCall& call, int bag, int number) {
  const auto rows = static_cast<int>(call.heads * call.queries);
  const int left = rows - number * kPoolRows;
  return {bag, number, left < kPoolRows ? left : kPoolRows, static_cast<int64_t>(bag) * rows + number * kPoolRows};
}

HOPFIELD_DEVICE int head_of(const PoolCall& call, int64_t row) {
  return static_cast<int>(row / call.queries % call.heads);
}

HOPFIELD_DEVICE bool active(const Forward& f, int64_t row, int64_t step) {
  return f.work.frozen[row] == 0 && step < f.call.steps_max[head_of(f.call, row)];
}

HOPFIELD_DEVICE bool any_active(const Forward& f, const RowGroup& group, int64_t step) {
  for (int i = 0; i < group.count; ++i) {
    if (active(f, group.first + i, step)) return true;
  }
  return false;
}

/// Cuts all bags into parts and groups of parts; an empty bag has one of each. One block.
HOPFIELD_KERNEL void plan_parts(Forward f) {
  // Each thread takes a run of bags: it counts, learns what comes before it, and writes.
  const int threads = block_size();
  const int64_t run = (f.call.bags + threads - 1) / threads;
  const int64_t begin = thread_index() * run < f.call.bags ? thread_index() * run : f.call.bags;
  const int64_t end = begin + run < f.call.bags ? begin + run : f.call.bags;
  const auto parts_of = [&](int64_t bag) {
    const auto parts = (f.call.offsets[bag + 1] - f.call.offsets[bag] + kPoolPart - 1) / kPoolPart;
    return static_cast<int>(parts > 0 ? parts : 1);
  };
  int parts = 0, groups = 0;
  for (int64_t bag = begin; bag < end; ++bag) {
    parts += parts_of(bag);
    groups += (parts_of(bag) + kPoolGroup - 1) / kPoolGroup;
  }
  int* counts = shared_memory<int>();
  counts[2 * thread_index()] = parts;
  counts[2 * thread_index() + 1] = groups;
  sync_threads();
  parts = groups = 0;
  for (int i = 0; i < thread_index(); ++i) {
    parts += counts[2 * i];
    groups += counts[2 * i + 1];
  }
  for (int64_t bag = begin; bag < end; ++bag) {
    f.work.plan.first_part[bag] = parts;
    f.work.plan.first_group[bag] = groups;
    parts += parts_of(bag);
    groups += (parts_of(bag) + kPoolGroup - 1) / kPoolGroup;
  }
  if (thread_index() == threads - 1) {
    f.work.plan.first_part[f.call.bags] = parts;
    f.work.plan.first_group[f.call.bags] = groups;
  }
}

/// W^T xi of a group's rows, from their states in memory of this block or of the device: [16, room].
HOPFIELD_DEVICE void map_to_instances(const Forward& f, const RowGroup& group, const float* states, float* queries) {
  const auto& call = f.call;
  const int room = room_of(call);
  for (int i = 0; i < kPoolRows; ++i) {
    const int head = i < group.count ? head_of(call, group.first + i) : 0;
    const float* weight = call.weight + head * call.depth * call.width;
    for (int k = thread_index(); k < room; k += block_size()) {
      float sum = 0.0f;
      if (i < group.count && k < call.width) {
        for (int64_t j = 0; j < call.depth; ++j) {
          sum = fused_multiply_add(weight[j * call.width + k], states[i * call.depth + j], sum);
        }
      }
      queries[i * room + k] = sum;
    }
  }
}

/// Before the first pass. A block for each row group.
HOPFIELD_KERNEL void prepare(Forward f) {
  const auto& call = f.call;
  const int groups = row_groups(call), room = room_of(call);
  const auto group = row_group(call, block_index().x / groups, block_index().x % groups);
  const auto rows = call.heads * call.queries;
  float* states = f.work.states + group.first * call.depth;
  for (int64_t i = thread_index(); i < group.count * call.depth; i += block_size()) {
    states[i] = call.state[group.bag * call.state_bag + (group.first - group.bag * rows) * call.depth + i];
  }
  for (int i = thread_index(); i < group.count; i += block_size()) {
    f.work.frozen[group.first + i] = 0;
    f.out.steps[group.first + i] = 0;
    f.out.residual[group.first + i] = bits_float(0x7FC00000u);
  }
  if (thread_index() == 0) {
    f.work.bag_tickets[group.bag * groups + group.number] = 0;
    for (int i = f.work.plan.first_group[group.bag]; i < f.work.plan.first_group[group.bag + 1]; ++i) {
      f.work.group_tickets[static_cast<int64_t>(i) * groups + group.number] = 0;
    }
  }
  sync_threads();
  const int64_t place = static_cast<int64_t>(group.bag) * groups + group.number;
  map_to_instances(f, group, states, f.work.queries + place * kPoolRows * room);
}

/// Sums of exponentials of 16 rows relative to their largest score, and the weighted instances. Several merge into one,
/// in the order of the instances.
struct Partials {
  float *sums, *means;  ///< [3, 16] largest, sum, kept; [16, room]
};

HOPFIELD_DEVICE Partials partials(const Forward& f, int64_t slot) {
  return {f.work.partial_sums + slot * 3 * kPoolRows, f.work.partial_means + slot * kPoolRows * room_of(f.call)};
}

/// Puts the sum of `count` partials, `stride` slots apart, into the first of them. `factors` [count + 1, 16] in shared
/// memory. All threads of a block.
HOPFIELD_DEVICE void merge_partials(const Forward& f, int64_t first, int64_t stride, int count, int rows,
                                    float* factors) {
  const auto total = partials(f, first);
  const int room = room_of(f.call);
  if (thread_index() < rows) {
    const int row = thread_index();
    float largest = minus_infinity(), sum = 0.0f, kept = 0.0f;
    for (int i = 0; i < count; ++i) {
      const float other = load_fresh(partials(f, first + i * stride).sums + row);
      if (!(other <= largest)) largest = other;  // NaN stays
    }
    for (int i = 0; i < count; ++i) {
      const float* sums = partials(f, first + i * stride).sums + row;
      const float own = load_fresh(sums);
      const float factor = own == minus_infinity() ? 0.0f : own == largest ? 1.0f : fast_exp2(own - largest);
      factors[i * kPoolRows + row] = factor;
      sum += factor == 0.0f ? 0.0f : factor * load_fresh(sums + kPoolRows);
      kept += factor == 0.0f ? 0.0f : factor * load_fresh(sums + 2 * kPoolRows);
    }
    factors[count * kPoolRows + row] = largest;
    factors[(count + 1) * kPoolRows + row] = sum;
    factors[(count + 2) * kPoolRows + row] = kept;
  }
  sync_threads();
  for (int i = thread_index(); i < rows * room; i += block_size()) {
    float sum = 0.0f;
    for (int j = 0; j < count; ++j) {
      const float factor = factors[j * kPoolRows + i / room];
      if (factor != 0.0f) sum = fused_multiply_add(factor, load_fresh(partials(f, first + j * stride).means + i), sum);
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

HOPFIELD_DEVICE float natural_logsumexp(float largest, float sum) { return (largest + fast_log2(sum)) / kLog2e; }

/// A row's sums after all keys.
struct RowSums {
  float largest, sum, kept;  ///< largest in units of log 2
  bool dead;                 ///< nothing to attend to
};

HOPFIELD_DEVICE RowSums row_sums(const Partials& total, int i) {
  RowSums sums{load_fresh(total.sums + i), load_fresh(total.sums + kPoolRows + i),
               load_fresh(total.sums + 2 * kPoolRows + i), false};
  sums.dead = sums.largest == minus_infinity() && sums.sum == 0.0f;
  return sums;
}

HOPFIELD_DEVICE void save_sums(const Forward& f, const RowSums& sums, int64_t step, int64_t row, int64_t rows) {
  if (f.out.saved_sums == nullptr) return;
  float* to = f.out.saved_sums + 2 * (step * rows + row);
  to[0] = sums.largest / kLog2e;
  to[1] = sums.sum;
}

/// Moves a group's states to W mean + b, and its queries with them. `shared`: 16 (width + depth) floats.
HOPFIELD_DEVICE void finish_update(const Forward& f, const RowGroup& group, const Partials& total, int64_t step,
                                   float* shared) {
  const auto& call = f.call;
  const int room = room_of(call), groups = row_groups(call);
  const auto all_rows = call.bags * call.heads * call.queries;
  float *means = shared, *states = shared + kPoolRows * room;
  for (int i = warp_index(); i < group.count; i += kPoolWarps) {
    const auto row = group.first + i;
    const auto sums = row_sums(total, i);
    for (int k = lane_index(); k < room; k += 32) {
      const float mean = sums.dead ? 0.0f : load_fresh(total.means + i * room + k) / sums.sum;
      means[i * room + k] = mean;
      if (f.out.saved_means != nullptr && k < call.width) {
        f.out.saved_means[(step * all_rows + row) * call.width + k] = mean;
      }
    }
    sync_warp();
    const int head = head_of(call, row);
    const float* weight = call.weight + head * call.depth * call.width;
    const bool moves = active(f, row, step) && !sums.dead;
    float squares = 0.0f;
    for (int j = 0; j < call.depth; ++j) {
      float product = 0.0f;
      for (int k = lane_index(); k < call.width; k += 32) {
        product = fused_multiply_add(weight[j * call.width + k], means[i * room + k], product);
      }
      product = warp_sum(product) + (call.bias != nullptr ? call.bias[head * call.depth + j] : 0.0f);
      const float before = f.work.states[row * call.depth + j];
      if (lane_index() == 0) states[i * call.depth + j] = moves ? product : before;
      squares += (product - before) * (product - before);
    }
    sync_warp();
    for (int j = lane_index(); j < call.depth; j += 32) {
      const float state = states[i * call.depth + j];
      f.work.states[row * call.depth + j] = state;
      if (f.out.saved_states != nullptr) f.out.saved_states[(step * all_rows + row) * call.depth + j] = state;
    }
    if (lane_index() == 0) {
      save_sums(f, sums, step, row, all_rows);
      if (active(f, row, step)) {
        const float residual = sums.dead ? 0.0f : squares > 0.0f ? 1.0f / fast_rsqrt(squares) : squares;
        const float eps = call.eps[head];
        f.out.residual[row] = residual;
        if (moves) f.out.steps[row] += 1;
        const bool goes_on = residual > eps && residual < bits_float(0x7F800000u);
        f.work.frozen[row] = sums.dead || (eps > 0.0f && !goes_on);
      }
    }
  }
  sync_threads();
  const int64_t place = static_cast<int64_t>(group.bag) * groups + group.number;
  map_to_instances(f, group, states, f.work.queries + place * kPoolRows * room);
}

/// Writes the results of a group after the read-out.
HOPFIELD_DEVICE void finish_call(const Forward& f, const RowGroup& group, const Partials& total) {
  const auto& call = f.call;
  const int room = room_of(call);
  const auto all_rows = call.bags * call.heads * call.queries;
  for (int i = warp_index(); i < group.count; i += kPoolWarps) {
    const auto row = group.first + i;
    const auto sums = row_sums(total, i);
    for (int k = lane_index(); k < call.width; k += 32) {
      f.out.output[row * call.width + k] = sums.dead ? 0.0f : load_fresh(total.means + i * room + k) / sums.sum;
    }
    for (int j = lane_index(); j < call.depth; j += 32) {
      const float state = f.work.states[row * call.depth + j];
      f.out.state[row * call.depth + j] = state;
      // The states stood still from there on: what the backward pass will look for.
      for (auto step = f.out.steps[row]; f.out.saved_states != nullptr && step < call.most_steps; ++step) {
        f.out.saved_states[(step * all_rows + row) * call.depth + j] = state;
      }
    }
    sync_warp();
    if (lane_index() == 0) {
      save_sums(f, sums, call.most_steps, row, all_rows);
      f.out.mass[row] = sums.dead ? 0.0f : sums.kept / sums.sum;
      f.out.logsumexp[row] = sums.dead ? minus_infinity() : natural_logsumexp(sums.largest, sums.sum);
      if (sums.dead) f.out.residual[row] = 0.0f;
      f.out.converged[row] = sums.dead || f.out.residual[row] <= call.eps[head_of(call, row)];
    }
  }
}

/// Largest score and sum of a lane's two rows, g and g + 8, over the tiles so far; the same in all warps.
struct Running {
  float largest[2] = {minus_infinity(), minus_infinity()};
  float sum[2] = {0.0f, 0.0f};
  float kept[2] = {0.0f, 0.0f};
  float shift[2] = {0.0f, 0.0f};  ///< sum of weights times means of instances
};

/// Over the four lanes of a row.
HOPFIELD_DEVICE float quad_sum(float value) {
  value += shuffle_xor(value, 1);
  return value + shuffle_xor(value, 2);
}
HOPFIELD_DEVICE float quad_max(float value) {
  const float other = shuffle_xor(value, 1);
  value = value < other ? other : value;
  const float more = shuffle_xor(value, 2);
  return value < more ? more : value;
}

/// 0, or what an entry of the final association is multiplied by.
HOPFIELD_DEVICE float dropout_factor(const PoolCall& call, const RowGroup& group, int row, int64_t key) {
  const auto number = group.first + row;
  const auto words =
      dropout_words(call.seed, static_cast<uint32_t>(group.bag), static_cast<uint32_t>(head_of(call, number)),
                    static_cast<uint32_t>(number % call.queries), static_cast<uint32_t>(key / 4));
  if (call.dropout >= 1.0f) return 0.0f;
  return words[static_cast<size_t>(key % 4)] < dropout_threshold(call.dropout) ? 0.0f : 1.0f / (1.0f - call.dropout);
}

/// A part of a bag for a row group: the tiles one after the other.
template <class T, int most_tiles>
class Part {
 public:
  HOPFIELD_DEVICE Part(const Forward& f, const Pass& pass, const RowGroup& group, int64_t bag_first, int64_t first,
                       int64_t count)
      : f_(f),
        pass_(pass),
        group_(group),
        bag_first_(bag_first),
        first_(first),
        count_(count),
        room_(room_of(f.call)),
        at_(room_of(f.call)) {}

  HOPFIELD_DEVICE void run() {
    const auto& call = f_.call;
    const int64_t place = static_cast<int64_t>(group_.bag) * row_groups(call) + group_.number;
    load_queries<T>(shared_memory(at_.queries), shared_memory<float>(at_.row_sums),
                    f_.work.queries + place * kPoolRows * room_, room_);
    const int tiles = static_cast<int>((count_ + kRows - 1) / kRows);
    if (tiles > 0) fetch(0);
    commit_copies();
    for (int number = 0; number < tiles; ++number) {
      if (number + 1 < tiles) fetch(number + 1);
      commit_copies();
      wait_copies<1>();
      sync_threads();
      take(number);
      sync_threads();  // the stage is free again
    }
  }

  HOPFIELD_DEVICE void store(const Partials& target) const {
    const int g = lane_index() / 4, column = lane_index() % 4;
    const int begin = warp_index() * (room_ / kPoolWarps);
    HOPFIELD_UNROLL
    for (int t = 0; t < most_tiles; ++t) {
      if (t >= room_ / 32) break;
      HOPFIELD_UNROLL
      for (int i = 0; i < 4; ++i) {
        const int row = g + i / 2 * 8;
        if (row < group_.count) {
          store_fresh(target.means + row * room_ + begin + 8 * t + 2 * column + i % 2,
                      sums_[t][i] - running_.shift[i / 2]);
        }
      }
    }
    if (warp_index() != 0 || column != 0) return;
    for (int i = 0; i < 2; ++i) {
      store_fresh(target.sums + g + 8 * i, running_.largest[i]);
      store_fresh(target.sums + kPoolRows + g + 8 * i, running_.sum[i]);
      store_fresh(target.sums + 2 * kPoolRows + g + 8 * i, running_.kept[i]);
    }
  }

 private:
  static constexpr int kRows = kTileRows<T, most_tiles>;

  HOPFIELD_DEVICE T* tile(int number) const {
    return shared_memory<T>(at_.tiles) + number % kPoolStages * kRows * tile_pitch<T>(room_);
  }
  HOPFIELD_DEVICE int rows_in(int number) const {
    const int64_t left = count_ - static_cast<int64_t>(number) * kRows;
    return static_cast<int>(left < kRows ? left : kRows);
  }
  HOPFIELD_DEVICE void fetch(int number) const {
    fetch_tile<T, kRows>(tile(number), f_.call, first_ + static_cast<int64_t>(number) * kRows, rows_in(number), room_);
  }

  HOPFIELD_DEVICE void take(int number) {
    normalize_tile<T, kRows>(tile(number), shared_memory<float>(at_.scales), shared_memory<float>(at_.shifts), f_.call,
                             room_);
    find_scores(number);
    sync_threads();
    add(number);
  }

  /// Scores of the calling warp's instances, in units of log 2.
  HOPFIELD_DEVICE void find_scores(int number) const {
    const auto& call = f_.call;
    const int g = lane_index() / 4, column = lane_index() % 4;
    if (8 * warp_index() >= kRows) return;
    float c[kWarpEights<kRows>][4] = {};
    score_products<T, kRows>(c, shared_memory(at_.queries), tile(number), room_);
    const float* scales = shared_memory<float>(at_.scales);
    const float* shifts = shared_memory<float>(at_.shifts);
    const float* row_totals = shared_memory<float>(at_.row_sums);
    float* scores = shared_memory<float>(at_.scores);
    for (int j = 0; j < kWarpEights<kRows>; ++j) {
      for (int i = 0; i < 4; ++i) {
        const int row = g + i / 2 * 8, key = 8 * (warp_index() + j * kPoolWarps) + 2 * column + i % 2;
        const int64_t instance = first_ + static_cast<int64_t>(number) * kRows + key;
        const bool exists = key < rows_in(number) && row < group_.count;
        float score = minus_infinity();
        if (exists) {
          const float bias = call.key_bias != nullptr ? call.key_bias[instance] : 0.0f;
          const float beta = call.beta[head_of(call, group_.first + row)];
          const float natural = beta * scales[key] * (c[j][i] - shifts[key] * row_totals[row]) + bias;
          if (bias != minus_infinity()) score = natural * kLog2e;
          if (pass_.last && f_.out.scores != nullptr) {
            const auto rows = call.heads * call.queries;
            f_.out.scores[instance * rows + (group_.first + row) % rows] =
                bias != minus_infinity() ? natural : minus_infinity();
          }
        }
        scores[row * kScorePitch<kRows> + key] = score;
      }
    }
  }

  /// Takes the tile's scores into the running sums.
  HOPFIELD_DEVICE void add(int number) {
    const auto& call = f_.call;
    const int g = lane_index() / 4, column = lane_index() % 4;
    const float* scores = shared_memory<float>(at_.scores);
    const float* scales = shared_memory<float>(at_.scales);
    const float* shifts = shared_memory<float>(at_.shifts);
    const bool drops = pass_.last && call.dropout > 0.0f;
    float factor[2];
    for (int r = 0; r < 2; ++r) {
      const float* row = scores + (g + 8 * r) * kScorePitch<kRows>;
      float largest = running_.largest[r];
      for (int key = column; key < kRows; key += 4) largest = row[key] <= largest ? largest : row[key];
      largest = quad_max(largest);
      // Before the first key there is nothing to scale; -inf must not be subtracted from itself.
      factor[r] = running_.largest[r] == largest            ? 1.0f
                  : running_.largest[r] == minus_infinity() ? 0.0f
                                                            : fast_exp2(running_.largest[r] - largest);
      running_.largest[r] = largest;
      running_.sum[r] *= factor[r];
      running_.kept[r] *= factor[r];
      running_.shift[r] *= factor[r];
    }
    HOPFIELD_UNROLL
    for (int t = 0; t < most_tiles; ++t) {
      HOPFIELD_UNROLL
      for (int i = 0; i < 4; ++i) sums_[t][i] *= factor[i / 2];
    }
    float sum[2] = {}, kept[2] = {}, shift[2] = {};
    for (int first = 0; first < kRows; first += 16) {
      WeightFragment weights;
      HOPFIELD_UNROLL
      for (int i = 0; i < 8; ++i) {
        const int half = i / 4, r = i / 2 % 2, key = first + 8 * half + 2 * column + i % 2;
        const float score = scores[(g + 8 * r) * kScorePitch<kRows> + key];
        const float p = score == minus_infinity() ? 0.0f : fast_exp2(score - running_.largest[r]);
        sum[r] += p;
        float stays = p;
        if (drops && g + 8 * r < group_.count) {
          const int64_t place = first_ - bag_first_ + static_cast<int64_t>(number) * kRows + key;
          stays *= dropout_factor(call, group_, g + 8 * r, place);
        }
        kept[r] += stays;
        // Rounded here, so that the instance means are subtracted with the very weights that they were added with.
        const float weight = as_weight<T>(stays * scales[key]);
        shift[r] += weight * shifts[key];
        weights.at[half][r][i % 2] = weight;
      }
      add_weighted<T, most_tiles>(sums_, weights, tile(number), first, room_);
    }
    for (int r = 0; r < 2; ++r) {
      running_.sum[r] += quad_sum(sum[r]);
      running_.kept[r] += quad_sum(kept[r]);
      running_.shift[r] += quad_sum(shift[r]);
    }
  }

  const Forward& f_;
  const Pass pass_;
  const RowGroup group_;
  const int64_t bag_first_, first_, count_;
  const int room_;
  const PoolShared<T, kRows> at_;
  Running running_;
  float sums_[most_tiles][4] = {};
};

/// Whether the calling block is the last of `count` to come here; it then sees what the others wrote before. The
/// counter is 0 again for the next pass.
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

/// One pass: a block for each part and row group. The last block of a group of parts merges them, the last group of a
/// bag merges the groups and finishes the bag's rows.
template <class T, int most_tiles>
HOPFIELD_KERNEL void HOPFIELD_LAUNCH_BOUNDS(kPoolThreads, 2) pool_pass(Forward f, Pass pass) {
  const auto& call = f.call;
  const int groups = row_groups(call), part = block_index().x / groups;
  const int32_t* first_part = f.work.plan.first_part;
  const int bags = static_cast<int>(call.bags);
  if (part >= first_part[bags]) return;
  int low = 0, high = bags;  // the bag with first_part[low] <= part < first_part[low + 1]
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    (first_part[middle] <= part ? low : high) = middle;
  }
  const auto group = row_group(call, low, block_index().x % groups);
  if (!pass.last && !any_active(f, group, pass.step)) return;

  const int64_t bag_first = call.offsets[low], bag_end = call.offsets[low + 1];
  const int parts = first_part[low + 1] - first_part[low], number = part - first_part[low];
  const int64_t first = bag_first + static_cast<int64_t>(number) * kPoolPart;
  const int64_t count = bag_end - first < kPoolPart ? bag_end - first : kPoolPart;
  Part<T, most_tiles> work(f, pass, group, bag_first, first, count);
  work.run();
  const int64_t slot = static_cast<int64_t>(part) * groups + group.number;
  work.store(partials(f, slot));

  const int in_group = number / kPoolGroup, part_groups = (parts + kPoolGroup - 1) / kPoolGroup;
  const int group_begin = in_group * kPoolGroup;
  const int group_count = parts - group_begin < kPoolGroup ? parts - group_begin : kPoolGroup;
  const int64_t group_number = f.work.plan.first_group[low] + in_group;
  if (!is_last_to_arrive(f.work.group_tickets + group_number * groups + group.number, group_count)) return;
  float* shared = shared_memory<float>(kShared);
  const int64_t group_slot = (static_cast<int64_t>(first_part[low]) + group_begin) * groups + group.number;
  if (group_count > 1) merge_partials(f, group_slot, groups, group_count, group.count, shared);
  if (!is_last_to_arrive(f.work.bag_tickets + static_cast<int64_t>(low) * groups + group.number, part_groups)) return;
  const int64_t bag_slot = static_cast<int64_t>(first_part[low]) * groups + group.number;
  for (int done = 1, stride = kPoolGroup; done < part_groups; stride *= kPoolGroup, done *= kPoolGroup) {
    // Groups merge like parts, as often as it takes.
    const int left = (part_groups + done - 1) / done;
    for (int i = 0; i < left; i += kPoolGroup) {
      const int together = left - i < kPoolGroup ? left - i : kPoolGroup;
      if (together > 1) {
        merge_partials(f, bag_slot + static_cast<int64_t>(i) * stride * groups, static_cast<int64_t>(stride) * groups,
                       together, group.count, shared);
      }
    }
  }
  if (pass.last) {
    finish_call(f, group, partials(f, bag_slot));
  } else {
    finish_update(f, group, partials(f, bag_slot), pass.step, shared);
  }
}

template <class T, int most_tiles>
std::string run_passes(const Forward& f, Stream stream) {
  const int64_t groups = pool_row_groups(f.call.heads, f.call.queries), blocks = f.work.most_parts * groups;
  const auto room = pool_room(f.call.width);
  const int64_t streaming = PoolShared<T, kTileRows<T, most_tiles>>(static_cast<int>(room)).total;
  const int64_t finishing = kShared + static_cast<int64_t>(sizeof(float)) * kPoolRows * (room + f.call.depth);
  const auto shared = static_cast<size_t>(streaming > finishing ? streaming : finishing);
  const LaunchShape shape{{blocks, 1, 1}, kPoolThreads, shared};
  for (int64_t step = 0; step <= f.call.most_steps; ++step) {
    const Pass pass{step, step == f.call.most_steps};
    auto error = launch(pool_pass<T, most_tiles>, shape, stream, f, pass);
    if (!error.empty()) return error;
  }
  return {};
}

template <class T>
std::string run_passes_of(const Forward& f, Stream stream) {
  const auto room = pool_room(f.call.width);
  if (room <= 256) return run_passes<T, 8>(f, stream);
  if (room <= 512) return run_passes<T, 16>(f, stream);
  return run_passes<T, 32>(f, stream);
}

}  // namespace

std::string pool_forward(const PoolCall& call, const PoolOutputs& outputs, void* workspace, Stream stream) {
  if (call.bags * call.heads * call.queries == 0) return {};
  Forward f{call, outputs, {}};
  cut_pool_workspace(call, workspace, f.work);
  constexpr int64_t kPlanThreads = 256;
  auto error = launch(plan_parts, {{1, 1, 1}, kPlanThreads, 2 * kPlanThreads * sizeof(int)}, stream, f);
  if (!error.empty()) return error;
  const auto groups = pool_row_groups(call.heads, call.queries);
  error = launch(prepare, {{call.bags * groups, 1, 1}, kPoolThreads}, stream, f);
  if (!error.empty()) return error;
  switch (call.type) {
    case PoolType::bfloat16:
      return run_passes_of<bfloat16_t>(f, stream);
    case PoolType::float16:
      return run_passes_of<float16_t>(f, stream);
    case PoolType::float32:
      return run_passes_of<float>(f, stream);
  }
  return "an element type that pooling does not know";
}

}  // namespace hopfield::kernels::cuda
