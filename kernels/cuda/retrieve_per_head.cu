#include <kernels/cuda/dispatch.h>
#include <kernels/cuda/launch.h>
#include <kernels/cuda/retrieve_per_head.h>
#include <kernels/cuda/retrieve_per_head_comparison.h>
#include <kernels/cuda/retrieve_per_head_queries.h>

namespace hopfield::kernels::cuda {
namespace {

/// Initialises what later launches count in. By all blocks of the first launch.
HOPFIELD_DEVICE void clear_workspace(const PerHeadForward& s) {
  const int64_t first = static_cast<int64_t>(block_index().x) * block_size() + thread_index(),
                threads = static_cast<int64_t>(grid_size().x) * block_size();
  for (int64_t h = first; h < s.f.call.heads; h += threads) s.work.heads[h] = progress_of(s, static_cast<int>(h));
  for (int64_t i = first; i < s.f.sets.sets * s.samples; i += threads) s.work.sample_tickets[i] = 0;
  if (first != 0) return;
  *s.work.tickets = 0;
  uint32_t going_on = 0;
  for (int64_t h = 0; h < s.f.call.heads; ++h) going_on += s.f.call.steps_max[h] > 0 ? 1 : 0;
  *s.work.going_on = going_on;
}

/// One association, compared with the one before; the last one reads out. There are two arrays of states: a launch
/// reads the current states and those before, and overwrites the latter with the next ones.
template <class T>
HOPFIELD_KERNEL void HOPFIELD_LAUNCH_BOUNDS(kRetrieveThreads, 1) retrieve_step_per_head(PerHeadForward s) {
  const auto& f = s.f;
  const bool last = s.step == f.call.most_steps;
  if (s.step == 0) clear_workspace(s);
  if (s.step > 0 && !last && *s.work.going_on == 0) return;
  const QueryShared<T, kPerHeadWidth, kPerHeadKeys<T>> at(f.call.exact_states);
  const int64_t tile = block_index().x % f.sets.tiles, set_number = block_index().x / f.sets.tiles;
  const RetrieveSet set(f.call, f.sets, set_number);
  typename PerHeadQueries<T>::Patterns patterns(f.call, set, shared_memory<T>(at.patterns));
  PerHeadQueries<T> work(s, set, tile, patterns);
  int* votes = shared_memory<int>(at.votes);
  const bool goes_on = work.any_active();
  if (lane_index() == 0) votes[warp_index()] = goes_on ? 1 : 0;
  sync_threads();
  bool wanted = last || s.step == 0;  // the first takes all states along
  for (int warp = 0; warp < kRetrieveWarps; ++warp) wanted = wanted || votes[warp] != 0;
  if (wanted) {
    work.load();
    work.hide_patterns(tile);
    patterns.begin({0, last ? 1 : 0, false});
    work.associate_and_compare(last);
    if (last) {
      work.write_read_out();
    } else {
      work.propose();
    }
  }
  if (s.step == 0) return;
  const Comparison<T> comparison(s, set, set_number, tile);
  if (wanted) comparison.add_rows();
  comparison.finish();
}

/// Hands the residuals that the last launch found for each head out to the head's rows.
HOPFIELD_KERNEL void HOPFIELD_LAUNCH_BOUNDS(kRetrieveThreads, 1) write_head_residuals(PerHeadForward s) {
  const auto& call = s.f.call;
  const auto& out = s.f.out;
  const int64_t row = static_cast<int64_t>(block_index().x) * block_size() + thread_index();
  if (row >= call.rows()) return;
  const auto head =
      static_cast<uint32_t>(row) / static_cast<uint32_t>(call.queries) % static_cast<uint32_t>(call.heads);
  const bool dead = out.logsumexp[row] == minus_infinity();
  const float residual = dead ? 0.0f : s.work.heads[head].residual;
  out.residual[row] = residual;
  out.converged[row] = dead || residual <= call.eps[head];
}

template <class T>
PerHeadForward per_head_forward(const RetrieveCall& call, const Outputs& outputs, void* workspace) {
  return {call, outputs, retrieve_sets(call, kPerHeadRows<T>), workspace};
}

template <class T>
std::string run(const RetrieveCall& call, const Outputs& outputs, void* workspace, Stream stream) {
  auto s = per_head_forward<T>(call, outputs, workspace);
  const LaunchShape shape{
      {s.f.sets.sets * s.f.sets.tiles, 1, 1}, kRetrieveThreads, retrieve_per_head_shared_bytes(call)};
  for (; s.step <= call.most_steps; ++s.step) {
    auto error = launch(retrieve_step_per_head<T>, shape, stream, s);
    if (!error.empty()) return error;
  }
  const auto blocks = (call.rows() + kRetrieveThreads - 1) / kRetrieveThreads;
  return launch(write_head_residuals, {{blocks, 1, 1}, kRetrieveThreads}, stream, s);
}

}  // namespace

size_t retrieve_per_head_shared_bytes(const RetrieveCall& call) {
  return for_type(call.type, [&](auto number) {
    return static_cast<size_t>(PerHeadShared<decltype(number)>(call.exact_states).total);
  });
}

size_t retrieve_per_head_workspace_size(const RetrieveCall& call) {
  if (call.rows() == 0) return 0;
  return for_type(call.type, [&](auto number) { return per_head_forward<decltype(number)>(call, {}, nullptr).bytes; });
}

std::string retrieve_forward_per_head(const RetrieveCall& call, const Outputs& outputs, void* workspace,
                                      Stream stream) {
  return for_type(call.type, [&](auto number) { return run<decltype(number)>(call, outputs, workspace, stream); });
}

}  // namespace hopfield::kernels::cuda
