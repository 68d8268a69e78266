// Stores images in associative memories, and recalls them from corrupted cues.
//
//   build/cpu/bin/hopfield_memory store --memory continuous --out memory.safetensors
//   build/cpu/bin/hopfield_memory recall --in memory.safetensors --corrupt half,noise --amount 0.5,0.1 --grid
//   recall.png build/cpu/bin/hopfield_memory show --in memory.safetensors --grid stored.png
//   build/cpu/bin/hopfield_memory store --images my_pictures --size 64x64 --memory kernel --out mine.safetensors
//   build/cpu/bin/hopfield_memory --compare compare.png

#include "commands.h"
#include "options.h"

namespace hopfield::image_memory {
namespace {

int run(int argc, char** argv) {
  const auto request = parse_command_line(argc, argv);
  if (!request) return examples::kDone;
  if (request->store) return store(*request->store, request->command);
  if (request->recall) return recall(*request->recall, request->command);
  if (request->show) return show(*request->show, request->command);
  return compare(*request->compare, request->command);
}

}  // namespace
}  // namespace hopfield::image_memory

int main(int argc, char** argv) {
  return hopfield::examples::run_program("hopfield_memory", [&] { return hopfield::image_memory::run(argc, argv); });
}
