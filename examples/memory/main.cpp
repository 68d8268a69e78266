// Stores images in associative memories, and recalls them from corrupted cues.
//
//   build/cpu/bin/hopfield_memory store --memory continuous --out memory.safetensors
//   build/cpu/bin/hopfield_memory recall --in memory.safetensors --corrupt half,noise --amount 0.5,0.1 --grid r.png
//   build/cpu/bin/hopfield_memory show --in memory.safetensors --grid stored.png
//   build/cpu/bin/hopfield_memory store --images my_pictures --size 64x64 --memory kernel --out mine.safetensors
//   build/cpu/bin/hopfield_memory --compare compare.png
//
// Last lines of the first, the second and the last call, with the digits that scripts/bootstrap.sh --tests installs:
//   stored continuous (similarity euclidean, beta 256): 1797 images of 8x8 grey from digits; 0.0 s
//   right 97.6 %, wrong 1.3 %, no match 1.2 % of 1797 cues; nearest neighbour of the cue right 98.2 %; ..
//   images that came back       of 1      of 3      of 6     of 24
//   binary                         1         0         0         0
//   graded                         1         0         0         0
//   polynomial                     1         3         5        10
//   exponential                    1         3         5        11
//   continuous                     1         3         6        24
//   kernel                         1         0         0         0

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
