# What every target of this project shares: language level, warnings, sanitizers, OpenMP, one precompiled header.
include_guard(GLOBAL)

# Of all code, kernels included.
add_library(hopfield_kernel_flags INTERFACE)
target_compile_features(hopfield_kernel_flags INTERFACE cxx_std_17)
target_compile_options(hopfield_kernel_flags INTERFACE
  "$<$<COMPILE_LANGUAGE:CXX>:-fPIC;-Wall;-Wextra;-Wpedantic;-Wshadow;-Wnon-virtual-dtor;-Woverloaded-virtual>"
  "$<$<COMPILE_LANGUAGE:CUDA>:--expt-relaxed-constexpr;-Xcompiler=-fPIC,-Wall,-Wextra>")
if(HOPFIELD_WERROR)
  target_compile_options(hopfield_kernel_flags INTERFACE
    $<$<COMPILE_LANGUAGE:CXX>:-Werror> $<$<COMPILE_LANGUAGE:CUDA>:-Werror=all-warnings>)
endif()
if(HOPFIELD_SANITIZE)
  target_compile_options(hopfield_kernel_flags INTERFACE -fsanitize=${HOPFIELD_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  target_link_options(hopfield_kernel_flags INTERFACE -fsanitize=${HOPFIELD_SANITIZE})
endif()

# Of code that sees LibTorch.
add_library(hopfield_flags INTERFACE)
target_link_libraries(hopfield_flags INTERFACE hopfield_kernel_flags)
target_compile_definitions(hopfield_flags INTERFACE FMT_HEADER_ONLY)

# at::parallel_for is header code: without OpenMP it runs serially and says nothing. LibTorch's own copy of the OpenMP
# runtime, where it has one, is linked so that a program holds one thread pool.
target_compile_options(hopfield_flags INTERFACE -fopenmp)
if(EXISTS "${hopfield_torch_root}/lib/libgomp.so.1")
  target_link_libraries(hopfield_flags INTERFACE "${hopfield_torch_root}/lib/libgomp.so.1")
else()
  target_link_options(hopfield_flags INTERFACE -fopenmp)
endif()
if(HOPFIELD_WITH_CUDA)
  target_link_libraries(hopfield_flags INTERFACE Hopfield::c10_cuda CUDA::cudart)
endif()

# LibTorch's headers are compiled once, for the library and the programs alike, so all of them are position independent.
# These are the headers that most files include. torch/torch.h is not among them: GCC instantiates the templates that a
# precompiled header uses again in every file, and for all of LibTorch's modules that takes longer than most files do.
file(CONFIGURE OUTPUT "${PROJECT_BINARY_DIR}/pch.cpp" CONTENT "")
add_library(hopfield_pch OBJECT "${PROJECT_BINARY_DIR}/pch.cpp")
target_link_libraries(hopfield_pch PRIVATE hopfield_flags Hopfield::Torch)
target_precompile_headers(hopfield_pch PRIVATE
  <ATen/ATen.h> <ATen/CPUGeneratorImpl.h> <ATen/Parallel.h>
  <torch/csrc/autograd/autograd.h> <torch/csrc/autograd/custom_function.h> <torch/library.h>
  <torch/data/datasets/base.h> <torch/data/example.h>
  <torch/nn/cloneable.h> <torch/nn/init.h> <torch/nn/module.h> <torch/nn/modules/common.h>
  <torch/nn/modules/container/any.h> <torch/nn/modules/dropout.h> <torch/nn/modules/linear.h>
  <torch/nn/modules/normalization.h> <torch/nn/pimpl.h>
  <torch/optim/adamw.h> <torch/optim/optimizer.h> <torch/optim/sgd.h>)

# hopfield_add_executable(NAME SOURCES source... [LIBRARIES library...])
function(hopfield_add_executable name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "SOURCES;LIBRARIES")
  add_executable(${name} ${arg_SOURCES})
  target_link_libraries(${name} PRIVATE hopfield_flags Hopfield::Hopfield ${arg_LIBRARIES})
  target_precompile_headers(${name} REUSE_FROM hopfield_pch)
endfunction()
