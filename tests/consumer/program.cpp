// Which Hopfield and which LibTorch a project got. Compiles in a moment: it includes no header of tensors.
#include <hopfield/version.h>

#include <torch/headeronly/version.h>

#include <link.h>

#include <iostream>
#include <string>

int main() {
  std::cout << "hopfield " << hopfield::version() << "\nheaders " << TORCH_VERSION << "\n";
  dl_iterate_phdr(
      [](dl_phdr_info* info, std::size_t, void*) {
        const std::string path = info->dlpi_name;
        if (path.find("libtorch_cpu.so") != std::string::npos) std::cout << "libraries " << path << "\n";
        return 0;
      },
      nullptr);
}
