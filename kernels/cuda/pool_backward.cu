#include <kernels/cuda/launch.h>
#include <kernels/cuda/pool_backward.h>
#include <kernels/cuda/pool_block.h>
#include <kernels/cuda/pool_dispatch.h>
#include <kernels/cuda/pool_stream.h>

// The associations are taken back one at a time, the last one first. P are the weights of an association, dP their
// gradient, and dS = P (dP - D) that of the scores, with D = sum(P dP) over the instances Y. A pass over the bag gives
// dS Y. From it, the block that finishes last in the bag finds the gradient of the state before the association, and
// prepares the next pass. P and dS of all associations are kept, and one last pass turns them into the gradient of the
// instances: pool_backward_instances.cu.

namespace hopfield::kernels::cuda {
namespace {

/// Whether a gradient passes the row's update number `step`.
HOPFIELD_DEVICE bool passes(const PoolBackward& b, int64_t row, int64_t step) {
  return step < b.g.steps[row] && step >= b.g.steps[row] - b.g.last_steps;
}

enum class Kind { incoming, mapped };

/// A group's rows among all rows that the last pass multiplies with [count, padded width]: the gradient of what the
/// association of `step` read out, or its queries W^T xi.
HOPFIELD_DEVICE float* rows_of(const PoolBackward& b, const RowGroup& group, int64_t step, Kind kind) {
  const int64_t in_bag = b.call.heads * b.call.queries;
  const int64_t place = (2 * step + (kind == Kind::mapped ? 1 : 0)) * in_bag + group.first - group.bag * in_bag;
  return b.own.rows + (group.bag * pool_all_rows(b.call) + place) * pool_padded_width(b.call);
}

/// A row's state in the association of `step`.
HOPFIELD_DEVICE const float* state_of(const PoolBackward& b, const RowGroup& group, int64_t row, int64_t step) {
  const auto& call = b.call;
  if (step > 0) return floats(b.g.saved.states) + ((step - 1) * call.rows() + row) * call.depth;
  return first_state(call, group, row);
}

/// The mean instance that a row's association of `step` read out.
HOPFIELD_DEVICE const float* mean_of(const PoolBackward& b, int64_t row, int64_t step) {
  const auto& call = b.call;
  if (step == call.most_steps) return b.g.saved.output + row * call.width;
  return b.g.saved.means + (step * call.rows() + row) * call.width;
}

/// Prepares the pass of association `step`: writes its queries W^T xi, the gradient of what it read out, and D. Called
/// by one block of the row group.
/// @param shared  16 depth floats of shared memory
HOPFIELD_DEVICE void begin_step(const PoolBackward& b, const RowGroup& group, int64_t step, float* shared) {
  const auto& call = b.call;
  const auto all_rows = call.rows(), depth = call.depth;
  const bool last = step == call.most_steps;
  const int padded_width = pool_padded_width(call);
  for (int64_t i = thread_index(); i < group.count * depth; i += block_size()) {
    shared[i] = state_of(b, group, group.first + i / depth, step)[i % depth];
  }
  sync_threads();
  const auto map_to = [&](float* rows) {
    map_to_instances(call, group, {}, shared,
                     [rows, padded_width](int i, int k, float value) { rows[i * padded_width + k] = value; });
  };
  map_to(rows_of(b, group, step, Kind::mapped));
  sync_threads();
  float* incoming = rows_of(b, group, step, Kind::incoming);
  if (last) {
    for (int64_t i = thread_index(); i < group.count * padded_width; i += block_size()) {
      const auto row = group.first + i / padded_width, k = i % padded_width;
      incoming[i] = k < call.width ? floats(b.g.output.data)[row * call.width + k] : 0.0f;
    }
  } else {
    for (int64_t i = thread_index(); i < group.count * depth; i += block_size()) {
      const auto row = group.first + i / depth;
      shared[i] = passes(b, row, step) ? b.own.carried[group.first * depth + i] : 0.0f;
      b.g.states[step * all_rows * depth + group.first * depth + i] = shared[i];
    }
    sync_threads();
    map_to(incoming);
  }
  sync_threads();
  for (int i = warp_index(); i < group.count; i += kPoolWarps) {
    const auto row = group.first + i;
    float mean = warp_product(incoming + i * padded_width, mean_of(b, row, step), call.width);
    if (last && call.dropout > 0.0 && b.g.mass != nullptr) mean += b.g.mass[row] * b.g.saved.mass[row];
    if (last && b.g.logsumexp != nullptr) mean -= b.g.logsumexp[row];
    if (lane_index() == 0) b.own.means[row] = mean;
  }
}

/// Prepares the first pass: a block for each row group.
HOPFIELD_KERNEL void prepare_backward(PoolBackward b) {
  const auto& call = b.call;
  const int groups = pool_row_groups(call);
  const auto group = row_group(call, block_index().x / groups, block_index().x % groups);
  const auto begin = group.first * call.depth;
  for (int64_t i = thread_index(); i < group.count * call.depth; i += block_size()) {
    b.own.carried[begin + i] = b.g.state.data != nullptr ? floats(b.g.state.data)[begin + i] : 0.0f;
  }
  if (thread_index() < group.count) b.g.beta[group.first + thread_index()] = 0.0f;
  clear_tickets(call, b.work, group);
  sync_threads();
  begin_step(b, group, call.most_steps, shared_memory<float>());
}

/// Writes dS Y of a group's rows, as a pass has found it, to g.products. A warp for each row.
HOPFIELD_DEVICE void finish_products(const PoolBackward& b, const RowGroup& group, const Partials& total, int64_t step,
                                     float* products) {
  const auto& call = b.call;
  const int padded_width = pool_padded_width(call);
  const bool last = step == call.most_steps;
  for (int i = warp_index(); i < group.count; i += kPoolWarps) {
    const auto row = group.first + i;
    const bool takes = last || passes(b, row, step);
    // A row of dS should add up to 0. But dP and D are rounded differently, and their difference may be as small as
    // their errors. So D is corrected by the sum that dS has in fact, and dS by that sum times -P. With dropout there
    // is no correction: the mean instance has the weights that dropout left, not P.
    const float excess =
        load_fresh(total.sums + kPoolRows + i) + (last && b.g.logsumexp != nullptr ? -b.g.logsumexp[row] : 0.0f);
    const bool corrects = takes && !(last && call.dropout > 0.0);
    const float* means = mean_of(b, row, step);
    for (int64_t k = lane_index(); k < call.width; k += 32) {
      const float found = takes ? load_fresh(total.means + i * padded_width + k) : 0.0f;
      products[i * call.width + k] = corrects ? fused_multiply_add(-excess, means[k], found) : found;
    }
    if (corrects) {
      float* incoming = rows_of(b, group, step, Kind::incoming) + i * padded_width;
      const float* mapped = rows_of(b, group, step, Kind::mapped) + i * padded_width;
      const float by = -excess * call.beta[head_of(call, row)];
      for (int k = lane_index(); k < padded_width; k += 32)
        incoming[k] = fused_multiply_add(by, mapped[k], incoming[k]);
    }
  }
  sync_threads();
}

/// Finishes a pass: the gradient of the association's state, and of beta.
/// @param shared  16 depth floats of shared memory
HOPFIELD_DEVICE void finish_step(const PoolBackward& b, const RowGroup& group, const Partials& total, int64_t step,
                                 float* shared) {
  const auto& call = b.call;
  const auto depth = call.depth;
  const bool last = step == call.most_steps;
  float* products = b.g.products + (step * call.rows() + group.first) * call.width;
  finish_products(b, group, total, step, products);
  map_to_states(call, group, {}, products, call.width,
                [&](int i, int64_t j, int, float value) { shared[i * depth + j] = value; });
  sync_threads();
  for (int i = warp_index(); i < group.count; i += kPoolWarps) {
    const auto row = group.first + i;
    if (!last && !passes(b, row, step)) continue;
    const float* state = state_of(b, group, row, step);
    const float beta = call.beta[head_of(call, row)];
    float share = 0.0f;
    for (int64_t j = lane_index(); j < depth; j += 32) {
      const float value = shared[i * depth + j];
      share = fused_multiply_add(state[j], value, share);
      // The gradient of the state after this update has been passed on. That of the final state has not.
      float* carried = b.own.carried + row * depth + j;
      *carried = fused_multiply_add(beta, value, last ? *carried : 0.0f);
    }
    share = warp_sum(share);
    if (lane_index() == 0) b.g.beta[row] += share;
  }
  sync_threads();
  if (step > 0) {
    begin_step(b, group, step - 1, shared);
    return;
  }
  for (int64_t i = thread_index(); i < group.count * depth; i += block_size()) {
    // The state before the last `last_steps` updates counts as a constant.
    const bool constant = b.g.steps[group.first + i / depth] >= b.g.last_steps;
    floats(b.g.query.data)[group.first * depth + i] = constant ? 0.0f : b.own.carried[group.first * depth + i];
  }
}

/// What a lane knows of each of its two rows during a pass.
struct BackwardRow {
  bool takes = false;  ///< a gradient passes the association
  float beta = 0.0f, largest = 0.0f, sum = 1.0f, mean = 0.0f;
  float mass = 0.0f;  ///< gradient of the final association's sum
  float size = 1.0f;  ///< power of two that the incoming gradient, used as a query, was divided by
};

/// The products dS Y of a row group with a part of a bag.
template <class T, int most_tiles>
class BackwardPart {
 public:
  HOPFIELD_DEVICE BackwardPart(const PoolBackward& b, int64_t step, const RowGroup& group, const PartOfBag& part)
      : b_(b),
        step_(step),
        last_(step == b.call.most_steps),
        group_(group),
        part_(part),
        stream_(b.call, part.first, part.count, 2, kStages) {}

  HOPFIELD_DEVICE void run() {
    const int padded_width = stream_.padded_width();
    load_queries<T>(stream_.queries(0), stream_.row_sums(0), rows_of(b_, group_, step_, Kind::mapped), group_.count,
                    padded_width);
    load_queries<T>(stream_.queries(1), stream_.row_sums(1), rows_of(b_, group_, step_, Kind::incoming), group_.count,
                    padded_width, stream_.row_scales(1));
    sync_threads();
    for (int r = 0; r < 2; ++r) rows_[r] = row_at(r);
    stream_.template run<kStages - 1>([this](int number) {
      if (8 * warp_index() < kRows) find(number);
      sync_threads();
      stream_.weights().multiply_add(sums_, stream_.tile(number), stream_.padded_width(), b_.call.plain_float32);
    });
  }

  HOPFIELD_DEVICE void store(const Partials& target) const {
    const SumsOfWarps<2> sums(stream_.scratch());
    for (int r = 0; r < 2; ++r) sums.put(row_of(r), {excess_[r], shift_[r]});
    sync_threads();
    const int column = lane_index() % 4, padded_width = stream_.padded_width();
    for (int r = 0; r < 2; ++r) {
      if (row_of(r) >= group_.count) continue;
      float* means = target.means + row_of(r) * padded_width + warp_index() * (padded_width / kPoolWarps) + 2 * column;
      const float shift = sums.total(1, row_of(r)), size = rows_[r].size;
      HOPFIELD_UNROLL
      for (int t = 0; t < most_tiles; ++t) {
        if (t >= padded_width / 32) break;
        store_fresh(means + 8 * t, (sums_[t][2 * r] - shift) * size);
        store_fresh(means + 8 * t + 1, (sums_[t][2 * r + 1] - shift) * size);
      }
    }
    if (warp_index() != 0 || column != 0) return;
    for (int r = 0; r < 2; ++r) {
      // These sums are relative to no largest score. With the same one everywhere, partials are merged as they are.
      store_fresh(target.sums + row_of(r), 0.0f);
      store_fresh(target.sums + kPoolRows + row_of(r), sums.total(0, row_of(r)) * rows_[r].size);
      store_fresh(target.sums + 2 * kPoolRows + row_of(r), 0.0f);
    }
  }

 private:
  static constexpr int kRows = kTileRows<T, most_tiles>;
  static constexpr int kEights = kWarpEights<kRows>, kStages = pool_stages<T, most_tiles>(2);

  HOPFIELD_DEVICE static int row_of(int r) { return lane_index() / 4 + 8 * r; }

  HOPFIELD_DEVICE BackwardRow row_at(int r) const {
    BackwardRow result;
    if (row_of(r) >= group_.count) return result;
    const int64_t row = group_.first + row_of(r);
    const float* sums = b_.g.saved.sums + 2 * (step_ * b_.call.rows() + row);
    result.takes = (last_ || passes(b_, row, step_)) && sums[1] != 0.0f;
    result.beta = b_.call.beta[head_of(b_.call, row)];
    result.largest = sums[0];
    result.sum = sums[1];
    result.mean = b_.own.means[row];
    if (last_ && b_.g.mass != nullptr) result.mass = b_.g.mass[row];
    result.size = stream_.row_scales(1)[row_of(r)];
    return result;
  }

  /// P with dropout, and dS.
  struct Entry {
    float p = 0.0f, gradient = 0.0f;
  };
  HOPFIELD_DEVICE Entry entry(int number, int key, int r, float score, float incoming) const {
    const auto& call = b_.call;
    const auto& row = rows_[r];
    const int64_t instance = stream_.first(number) + key;
    const float bias = call.key_bias != nullptr ? call.key_bias[instance] : 0.0f;
    if (!row.takes || bias == minus_infinity()) return {};
    const float scale = stream_.scales(number)[key], shift = stream_.shifts(number)[key];
    const float natural = score_of(row.beta, score, stream_.row_sums(0)[row_of(r)], scale, shift, bias);
    const float p = fast_exp2(natural * kLog2e - row.largest) / row.sum;
    float gradient = row.size * scale * (incoming - shift * stream_.row_sums(1)[row_of(r)]), factor = 1.0f;
    if (last_ && call.dropout > 0.0) {
      factor = dropout_factor(call, group_, row_of(r), instance - part_.bag_first);
      gradient = factor * (gradient + row.mass);
    }
    return {p * factor, p * (gradient - row.mean)};
  }

  /// Finds P and dS of the calling warp's instances, keeps both for the last pass, and writes dS, divided by the row's
  /// size, as weights for all warps.
  HOPFIELD_DEVICE void find(int number) {
    const auto& call = b_.call;
    const bool few = group_.count <= 8;
    float c[kEights][4] = {}, d[kEights][4] = {};
    score_products<T, kRows>(c, stream_.queries(0), stream_.tile(number), stream_.padded_width(), few,
                             call.plain_float32);
    score_products<T, kRows>(d, stream_.queries(1), stream_.tile(number), stream_.padded_width(), few,
                             call.plain_float32);
    const auto in_bag = call.heads * call.queries, first_row = group_.first - group_.bag * in_bag;
    HOPFIELD_UNROLL
    for (int eight = 0; eight < kEights; ++eight) {
      const int key = 8 * (warp_index() + eight * kPoolWarps) + 2 * (lane_index() % 4);
      HOPFIELD_UNROLL
      for (int r = 0; r < 2; ++r) {
        float weights[2] = {};
        HOPFIELD_UNROLL
        for (int i = 0; i < 2; ++i) {
          if (key + i >= stream_.rows_in(number) || row_of(r) >= group_.count) continue;
          const auto found = entry(number, key + i, r, c[eight][2 * r + i], d[eight][2 * r + i]);
          weights[i] = found.gradient / rows_[r].size;
          excess_[r] += weights[i];
          if (b_.own.weights == nullptr) continue;
          const auto row = (stream_.first(number) + key + i) * pool_all_rows(call);
          float* kept = b_.own.weights + row + 2 * step_ * in_bag + first_row + row_of(r);
          kept[0] = found.p;
          kept[in_bag] = rows_[r].beta * found.gradient;
        }
        const float *scales = stream_.scales(number) + key, *shifts = stream_.shifts(number) + key;
        const WeightPair<T> pair(weights[0] * scales[0], weights[1] * scales[1]);
        shift_[r] += pair.even * shifts[0] + pair.odd * shifts[1];
        stream_.weights().store(row_of(r), key, pair);
      }
    }
  }

  const PoolBackward& b_;
  const int64_t step_;
  const bool last_;
  const RowGroup group_;
  const PartOfBag part_;
  const TileStream<T, kRows> stream_;
  BackwardRow rows_[2];
  float sums_[most_tiles][4] = {};
  // Of the warp's own instances.
  float shift_[2] = {};   ///< sums of weights times means of instances
  float excess_[2] = {};  ///< sums of dS
};

/// The pass of an association: a block for each part and row group.
template <class T, int most_tiles>
HOPFIELD_KERNEL void HOPFIELD_LAUNCH_BOUNDS(kPoolThreads, 2) pool_backward_pass(PoolBackward b, int64_t step) {
  const auto& call = b.call;
  const int groups = pool_row_groups(call), number = block_index().x / groups;
  if (number >= b.work.plan.first_part[call.batch]) return;
  const auto part = part_of_bag(call, b.work, number);
  const auto group = row_group(call, part.bag, block_index().x % groups);
  BackwardPart<T, most_tiles> work(b, step, group, part);
  work.run();
  work.store(partials(call, b.work, slot_of(call, b.work, part, part.number, group)));
  if (!merge_bag(call, b.work, part, group)) return;
  finish_step(b, group, partials(call, b.work, slot_of(call, b.work, part, 0, group)), step,
              shared_memory<float>(kShared));
}

template <class T, int most_tiles>
std::string run_passes(const PoolBackward& b, Stream stream) {
  const auto& call = b.call;
  const int64_t blocks = b.work.most_parts * pool_row_groups(call);
  const LaunchShape shape{{blocks, 1, 1}, kPoolThreads, streaming_shared_bytes<T, most_tiles>(call, 2)};
  for (int64_t step = call.most_steps; step >= 0; --step) {
    auto error = launch(pool_backward_pass<T, most_tiles>, shape, stream, b, step);
    if (!error.empty()) return error;
  }
  return {};
}

}  // namespace

std::string pool_backward(const PoolCall& call, const Gradients& gradients, void* workspace, Stream stream) {
  if (call.rows() == 0) return {};
  PoolBackward b{call, gradients, {}, {}};
  cut_pool_workspace(call, gradients, workspace, b.work, b.own);
  auto error = plan_pool(call, b.work, {}, stream);
  if (!error.empty()) return error;
  const auto groups = pool_row_groups(call);
  const auto shared = static_cast<size_t>(kPoolRows * call.depth) * sizeof(float);
  error = launch(prepare_backward, {{call.batch * groups, 1, 1}, kPoolThreads, shared}, stream, b);
  if (!error.empty()) return error;
  error = for_instances<PoolBackwardTiles>(
      call, [&](auto number, auto tiles) { return run_passes<decltype(number), tiles()>(b, stream); });
  return error.empty() && gradients.stored.data != nullptr ? pool_backward_instances(b, stream) : error;
}

}  // namespace hopfield::kernels::cuda
