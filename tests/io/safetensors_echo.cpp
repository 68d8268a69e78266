#include <hopfield/io/safetensors.h>

#include <iostream>
#include <string>

// For each line "IN<tab>OUT" on standard input: reads IN, writes OUT from it, and prints "ok" or "error <message>".
int main() {
  std::ios::sync_with_stdio(false);
  for (std::string line; std::getline(std::cin, line);) {
    const auto tab = line.find('\t');
    try {
      const auto file = hopfield::io::load_safetensors(line.substr(0, tab));
      hopfield::io::save_safetensors(line.substr(tab + 1), file.tensors, file.metadata);
      std::cout << "ok" << std::endl;
    } catch (const c10::Error& error) {
      std::string message = error.what_without_backtrace();
      for (auto& character : message) character = character == '\n' ? ' ' : character;
      std::cout << "error " << message << std::endl;
    }
  }
}
