#include "memory/dense.h"
#include "memory/file.h"
#include <hopfield/memory/exponential.h>

#include <ATen/ATen.h>

namespace hopfield::memory {

ExponentialMemory::ExponentialMemory(const at::Tensor& patterns) { adopt(patterns); }

Recall ExponentialMemory::recall(const at::Tensor& queries, const RecallSettings& settings) const {
  detail::check_sweeps(settings, prefix());
  return detail::recall_dense(detail::Interaction::exponential(queries.size(1)), patterns(), queries, settings);
}

at::Tensor ExponentialMemory::energy_of(const at::Tensor& states) const {
  return detail::energies_dense(detail::Interaction::exponential(states.size(1)), patterns(), states);
}

std::unique_ptr<Memory> ExponentialMemory::read(const detail::MemoryFile& file) {
  auto memory = std::make_unique<ExponentialMemory>();
  memory->restore(file.tensor("patterns", 2));
  return memory;
}

}  // namespace hopfield::memory
