#include <kernels/cuda/dispatch.h>
#include <kernels/cuda/launch.h>
#include <kernels/cuda/retrieve_per_head.h>
#include <kernels/cuda/retrieve_warpgroup.h>
#include <kernels/cuda/retrieve_warpgroup_queries.h>

#include <algorithm>
#include <cstdlib>

namespace hopfield::kernels::cuda {
namespace {

/// The first warpgroup copies tiles; the other two multiply, and take over most of its registers.
constexpr int kWarpgroupThreads = 3 * kWarpgroup;
constexpr int kWarpgroupMostWidth = 128;
constexpr int64_t kWarpgroupMost = int64_t{1} << 30;  ///< patterns, and updates: both are counted in 32 bits

/// Takes two tiles of queries through all updates and the read-out, each by a warpgroup of its own.
template <int padded_width>
HOPFIELD_KERNEL void HOPFIELD_LAUNCH_BOUNDS(kWarpgroupThreads, 1)
    retrieve_by_warpgroups(const HOPFIELD_GRID_CONSTANT WarpgroupForward f) {
#if !defined(__CUDA_ARCH__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
  const WarpgroupShared<padded_width> shared;
  if (thread_index() == 0) shared.init_barriers();
  sync_threads();
  const RetrieveSet set(f.call, f.sets, block_index().x / f.sets.tiles);
  // The same in all lanes. The shuffle lets the compiler know.
  const int warpgroup = shuffle(thread_index() / kWarpgroup, 0);
  if (warpgroup == 0) {
    give_back_registers<40>();
    if (thread_index() == 0) fetch_patterns<padded_width>(f, set, shared);
  } else {
    claim_registers<232>();
    using Shared = WarpgroupShared<padded_width>;
    QueryGroup<padded_width> work(f, shared, warpgroup - 1);
    work.load(set, (block_index().x % f.sets.tiles * Shared::kGroups + warpgroup - 1) * Shared::kQueries);
    const int most_steps = static_cast<int>(f.call.most_steps);
    for (int step = 0; step < most_steps; ++step) {
      work.associate(false);
      work.update(step);
    }
    work.associate(true);
    work.write_results();
  }
#else
  __trap();  // compiled for another GPU
#endif
}

/// Why the hardware cannot copy tiles of a tensor, or a lane not access pairs of its numbers; empty if it can.
std::string reason_against_tensor(const char* name, const Strided& tensor, int64_t rows) {
  if (tensor.data != nullptr && tensor.row == 0 && rows > 1) {
    return std::string("the warpgroup kernel takes no ") + name + " that are one row expanded";
  }
  for (const auto stride : {tensor.batch, tensor.head, tensor.row}) {
    if (stride < 0 || stride % 8 != 0 || stride >= int64_t{1} << 38) {
      return std::string("the warpgroup kernel takes ") + name + " whose strides are multiples of 8 numbers, not " +
             std::to_string(stride);
    }
  }
  if (reinterpret_cast<uintptr_t>(tensor.data) % 16 == 0) return {};
  return std::string("the warpgroup kernel takes ") + name + " that begin at a multiple of 16 bytes";
}

TensorMap encode(const RetrieveCall& call, const Strided& tensor, int64_t width, int tile_rows, std::string& error) {
  // The driver takes no stride of 0. Where a dimension is shared it has the extent 1, so any stride will do.
  const auto row = tensor.row == 0 ? width : tensor.row;
  const auto bytes = [&](int64_t stride) { return 2 * (stride == 0 ? row : stride); };
  TensorMap map{};
  TiledTensor tiled;
  tiled.data = tensor.data;
  tiled.columns = width;
  tiled.rows = call.keys;
  tiled.outer = tensor.head == 0 ? 1 : call.heads;
  tiled.outermost = tensor.batch == 0 ? 1 : call.batch;
  tiled.row_bytes = bytes(row);
  tiled.outer_bytes = bytes(tensor.head);
  tiled.outermost_bytes = bytes(tensor.batch);
  tiled.tile_rows = tile_rows;
  error = encode_tensor_map(map, tiled);
  return map;
}

template <int padded_width>
std::string run(const RetrieveCall& call, const Outputs& outputs, void* workspace, Stream stream) {
  using Shared = WarpgroupShared<padded_width>;
  const auto sets = retrieve_sets(call, Shared::kGroups * Shared::kQueries);
  WarpgroupForward f(call, outputs, sets, workspace);
  std::string error;
  f.stored = encode(call, call.stored, call.depth, Shared::kKeys, error);
  if (error.empty() && call.values.data != nullptr) {
    f.values = encode(call, call.values, call.width, Shared::kKeys, error);
  }
  if (!error.empty()) return error;
  const LaunchShape shape{{sets.sets * sets.tiles, 1, 1}, kWarpgroupThreads, static_cast<size_t>(Shared::kTotal)};
  return launch(retrieve_by_warpgroups<padded_width>, shape, stream, f);
}

/// Returns `run` of the padded width, a std::integral_constant.
template <class Run>
auto for_padded_width(const RetrieveCall& call, const Run& run) {
  return for_width(Widths<64, kWarpgroupMostWidth>(), std::max(call.depth, call.width), run);
}

}  // namespace

WarpgroupSwitch read_warpgroup_switch(const char* value) {
  WarpgroupSwitch result;
  if (value == nullptr) return result;
  const std::string text = value;
  result.on = text == "1";
  if (text != "0" && text != "1") {
    result.error = "expected the environment variable HOPFIELD_CUDA_WARPGROUP to be 0 or 1, got \"" + text + '"';
  }
  return result;
}

const WarpgroupSwitch& warpgroup_switch() {
  // Never freed, since threads may still call this while the program's static objects are destroyed.
  static const auto& of_process = *new WarpgroupSwitch(read_warpgroup_switch(std::getenv("HOPFIELD_CUDA_WARPGROUP")));
  return of_process;
}

std::string retrieve_warpgroup_reason_against(const RetrieveCall& call, const Outputs& outputs) {
  const std::string kernel = "the warpgroup kernel";
  const auto widest = std::max(call.depth, call.width);
  if (call.type != ElementType::bfloat16) return kernel + " takes bfloat16 alone";
  if (widest > kWarpgroupMostWidth) {
    return kernel + " takes heads of at most " + std::to_string(kWarpgroupMostWidth) + " numbers, not " +
           std::to_string(widest);
  }
  if (call.depth < 8 || call.width < 8 || call.depth % 8 != 0 || call.width % 8 != 0) {
    return kernel + " takes heads of a multiple of 8 numbers, not " + std::to_string(call.depth) + " and " +
           std::to_string(call.width);
  }
  if (call.exact_states) return kernel + " takes no step for a threshold";
  if (stops_per_head(call)) return kernel + " does not compare heads";
  if (call.is_ragged()) return kernel + " takes no ragged patterns";
  if (call.key_bias != nullptr || call.mask.kind != ScoreMask::Kind::none || call.is_causal)
    return kernel + " takes no masks";
  if (call.dropout > 0.0) return kernel + " has no dropout";
  if (outputs.scores != nullptr) return kernel + " does not write scores";
  if (call.keys < 1 || call.keys > kWarpgroupMost) {
    return kernel + " takes 1 to " + std::to_string(kWarpgroupMost) + " stored patterns, not " +
           std::to_string(call.keys);
  }
  if (call.most_steps > kWarpgroupMost) {
    return kernel + " takes at most " + std::to_string(kWarpgroupMost) + " steps, not " +
           std::to_string(call.most_steps);
  }
  if (auto reason = reason_against_tensor("stored patterns", call.stored, call.keys); !reason.empty()) return reason;
  if (auto reason = reason_against_tensor("values", call.values, call.keys); !reason.empty()) return reason;
  for (const auto& rows : {call.state, outputs.output, outputs.state}) {
    if (auto reason = reason_against_tensor("queries and results", rows, 1); !reason.empty()) return reason;
  }
  const auto generation = device_limits().generation;
  if (generation != 90) {
    return kernel + " runs on compute capability 9.0, the device has " + std::to_string(generation / 10) + "." +
           std::to_string(generation % 10);
  }
  const auto needed = for_padded_width(
      call, [](auto padded_width) { return static_cast<size_t>(WarpgroupShared<padded_width()>::kTotal); });
  const auto there = retrieve_shared_bytes(call);
  if (needed <= there) return {};
  return kernel + " takes " + std::to_string(needed) + " bytes of shared memory, of which a block has " +
         std::to_string(there);
}

std::string retrieve_warpgroup_forward(const RetrieveCall& call, const Outputs& outputs, void* workspace,
                                       Stream stream) {
  if (call.rows() == 0) return {};
  return for_padded_width(call,
                          [&](auto padded_width) { return run<padded_width()>(call, outputs, workspace, stream); });
}

}  // namespace hopfield::kernels::cuda
