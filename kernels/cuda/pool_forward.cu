#include <kernels/cuda/launch.h>
#include <kernels/cuda/pool_block.h>
#include <kernels/cuda/pool_stream.h>

namespace hopfield::kernels::cuda {
namespace {

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

HOPFIELD_DEVICE bool active(const Forward& f, int64_t row, int64_t step) {
  return f.work.frozen[row] == 0 && step < f.call.steps_max[head_of(f.call, row)];
}

HOPFIELD_DEVICE bool any_active(const Forward& f, const RowGroup& group, int64_t step) {
  for (int i = 0; i < group.count; ++i) {
    if (active(f, group.first + i, step)) return true;
  }
  return false;
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
  clear_tickets(call, f.work, group);
  sync_threads();
  const int64_t place = static_cast<int64_t>(group.bag) * groups + group.number;
  map_to_instances(call, group, states, f.work.queries + place * kPoolRows * room);
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
  to[0] = sums.largest;
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
      const float product = warp_product(weight + j * call.width, means + i * room, call.width) +
                            (call.bias != nullptr ? call.bias[head * call.depth + j] : 0.0f);
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
  map_to_instances(call, group, states, f.work.queries + place * kPoolRows * room);
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

/// A part of a bag for a row group: the tiles one after the other.
template <class T, int most_tiles>
class ForwardPart {
 public:
  HOPFIELD_DEVICE ForwardPart(const Forward& f, const Pass& pass, const RowGroup& group, const PartOfBag& part)
      : f_(f), pass_(pass), group_(group), part_(part), stream_(f.call, part.first, part.count, 1) {}

  HOPFIELD_DEVICE void run() {
    const auto place = static_cast<int64_t>(group_.bag) * row_groups(f_.call) + group_.number;
    const int room = stream_.room();
    load_queries<T>(stream_.queries(0), stream_.row_sums(0), f_.work.queries + place * kPoolRows * room, group_.count,
                    room);
    stream_.run([this](int number) {
      find_scores(number);
      sync_threads();
      add(number);
    });
  }

  HOPFIELD_DEVICE void store(const Partials& target) const {
    const int g = lane_index() / 4, column = lane_index() % 4;
    const int begin = warp_index() * (stream_.room() / kPoolWarps);
    HOPFIELD_UNROLL
    for (int t = 0; t < most_tiles; ++t) {
      if (t >= stream_.room() / 32) break;
      HOPFIELD_UNROLL
      for (int i = 0; i < 4; ++i) {
        const int row = g + i / 2 * 8;
        if (row < group_.count) {
          store_fresh(target.means + row * stream_.room() + begin + 8 * t + 2 * column + i % 2,
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

  /// Scores of the calling warp's instances, in units of log 2.
  HOPFIELD_DEVICE void find_scores(int number) const {
    const auto& call = f_.call;
    const int g = lane_index() / 4, column = lane_index() % 4;
    if (8 * warp_index() >= kRows) return;
    float c[kWarpEights<kRows>][4] = {};
    score_products<T, kRows>(c, stream_.queries(0), stream_.tile(number), stream_.room());
    const float* scales = stream_.scales();
    const float* shifts = stream_.shifts();
    const float* row_totals = stream_.row_sums(0);
    float* scores = stream_.scores(0);
    for (int j = 0; j < kWarpEights<kRows>; ++j) {
      for (int i = 0; i < 4; ++i) {
        const int row = g + i / 2 * 8, key = 8 * (warp_index() + j * kPoolWarps) + 2 * column + i % 2;
        const int64_t instance = stream_.first(number) + key;
        const bool exists = key < stream_.rows_in(number) && row < group_.count;
        float score = minus_infinity();
        if (exists) {
          const float bias = call.key_bias != nullptr ? call.key_bias[instance] : 0.0f;
          const float beta = call.beta[head_of(call, group_.first + row)];
          const float natural = score_of(beta, c[j][i], row_totals[row], scales[key], shifts[key], bias);
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
    const float* scores = stream_.scores(0);
    const float* scales = stream_.scales();
    const float* shifts = stream_.shifts();
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
          const int64_t place = stream_.first(number) + key - part_.bag_first;
          stays *= dropout_factor(call, group_, g + 8 * r, place);
        }
        kept[r] += stays;
        // Rounded here, so that the instance means are subtracted with the very weights that they were added with.
        const float weight = as_weight<T>(stays * scales[key]);
        shift[r] += weight * shifts[key];
        weights.at[half][r][i % 2] = weight;
      }
      add_weighted<T, most_tiles>(sums_, weights, stream_.tile(number), first, stream_.room());
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
  const PartOfBag part_;
  const TileStream<T, kRows> stream_;
  Running running_;
  float sums_[most_tiles][4] = {};
};

/// One pass: a block for each part and row group. The last block of a group of parts merges them, the last group of a
/// bag merges the groups and finishes the bag's rows.
template <class T, int most_tiles>
HOPFIELD_KERNEL void HOPFIELD_LAUNCH_BOUNDS(kPoolThreads, 2) pool_pass(Forward f, Pass pass) {
  const auto& call = f.call;
  const int groups = row_groups(call), number = block_index().x / groups;
  if (number >= f.work.plan.first_part[call.bags]) return;
  const auto part = part_of_bag(call, f.work, number);
  const auto group = row_group(call, part.bag, block_index().x % groups);
  if (!pass.last && !any_active(f, group, pass.step)) return;
  ForwardPart<T, most_tiles> work(f, pass, group, part);
  work.run();
  work.store(partials(call, f.work, slot_of(call, f.work, part, part.number, group)));
  if (!merge_bag(call, f.work, part, group)) return;
  const auto total = partials(call, f.work, slot_of(call, f.work, part, 0, group));
  if (pass.last) {
    finish_call(f, group, total);
  } else {
    finish_update(f, group, total, pass.step, shared_memory<float>(kShared));
  }
}

template <class T, int most_tiles>
std::string run_passes(const Forward& f, Stream stream) {
  const int64_t groups = pool_row_groups(f.call.heads, f.call.queries), blocks = f.work.most_parts * groups;
  const auto room = pool_room(f.call.width);
  const int64_t streaming = PoolShared<T, kTileRows<T, most_tiles>>(static_cast<int>(room), 1).total;
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
  auto error = plan_pool(call, f.work, stream);
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
