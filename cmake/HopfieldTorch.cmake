# hopfield_find_torch() defines the target Hopfield::Torch: LibTorch's headers and libraries.
#
# Looked for, in this order:
#   1. a target `torch` that the project already has (find_package(Torch) was called);
#   2. the LibTorch named by Torch_DIR or found through CMAKE_PREFIX_PATH;
#   3. the Python package torch of an active environment, of .venv beside the sources, or of python3 (never imported).
#
# 2 and 3 are linked directly: LibTorch's own package file insists on nvcc. Only a build of the CUDA kernels loads that
# file (HOPFIELD_CUDA), with repairs for what it does to the caller's CUDA settings.
#
# Sets HOPFIELD_TORCH_VERSION and, for a build of this project, HOPFIELD_WITH_CUDA.
include_guard(GLOBAL)

# Folder that holds LibTorch's lib/ and include/, or an empty string.
function(hopfield_locate_torch result)
  set(${result} "" PARENT_SCOPE)
  find_path(HOPFIELD_TORCH_CONFIG_DIR TorchConfig.cmake HINTS "${Torch_DIR}" PATH_SUFFIXES share/cmake/Torch NO_CACHE)
  if(HOPFIELD_TORCH_CONFIG_DIR)
    get_filename_component(root "${HOPFIELD_TORCH_CONFIG_DIR}/../../.." ABSOLUTE)
    set(${result} "${root}" PARENT_SCOPE)
    return()
  endif()
  foreach(python IN ITEMS "$ENV{VIRTUAL_ENV}/bin/python" "${PROJECT_SOURCE_DIR}/.venv/bin/python" python3)
    execute_process(
      COMMAND "${python}" -c "import importlib.util as u; s = u.find_spec('torch'); print(s.submodule_search_locations[0] if s else '')"
      OUTPUT_VARIABLE root OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET RESULT_VARIABLE status)
    if(status EQUAL 0 AND EXISTS "${root}/share/cmake/Torch/TorchConfig.cmake")
      set(${result} "${root}" PARENT_SCOPE)
      return()
    endif()
  endforeach()
endfunction()

function(hopfield_torch_version include_dirs result)
  foreach(dir IN LISTS include_dirs)
    set(header "${dir}/torch/headeronly/version.h")
    if(EXISTS "${header}")
      file(STRINGS "${header}" line REGEX "^ *\"[0-9]+\\.[0-9]+\\.[0-9]+")
      string(REGEX MATCH "[0-9]+\\.[0-9]+\\.[0-9]+" version "${line}")
      set(${result} "${version}" PARENT_SCOPE)
      return()
    endif()
  endforeach()
  message(FATAL_ERROR "Hopfield: the LibTorch found (${include_dirs}) is too old: version 2.11 or newer is needed. "
                      "Pass another one with -DTorch_DIR=<folder of TorchConfig.cmake>.")
endfunction()

# Loads LibTorch's own package file without a GPU at hand, and undoes its changes to the CUDA flags and architectures.
macro(hopfield_load_torch_package root)
  if(NOT DEFINED TORCH_CUDA_ARCH_LIST)
    set(TORCH_CUDA_ARCH_LIST "8.0;9.0a+PTX")
  endif()
  # In the cache before CMake puts nvcc's own default there. Later GPUs than these compile the PTX of 90: with that of 80 they
  # would be without clusters and bulk copies.
  if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
    set(CMAKE_CUDA_ARCHITECTURES "80-real;90a-real;90-virtual" CACHE STRING "GPUs that CUDA code is compiled for")
  endif()
  set(hopfield_cuda_architectures "${CMAKE_CUDA_ARCHITECTURES}")
  find_package(Torch REQUIRED PATHS "${root}/share/cmake/Torch" NO_DEFAULT_PATH)
  string(REGEX REPLACE "-gencode[= ][^ ]+" "" CMAKE_CUDA_FLAGS "${CMAKE_CUDA_FLAGS}")
  set(CMAKE_CUDA_ARCHITECTURES "${hopfield_cuda_architectures}")
endmacro()

# Whether the CUDA half of LibTorch can be loaded here: a CPU-only installation leaves its dependencies out.
function(hopfield_torch_cuda_usable root result)
  set(${result} FALSE PARENT_SCOPE)
  if(NOT EXISTS "${root}/lib/libtorch_cuda.so")
    return()
  endif()
  execute_process(COMMAND ldd "${root}/lib/libtorch_cuda.so" OUTPUT_VARIABLE needs ERROR_QUIET RESULT_VARIABLE status)
  if(status EQUAL 0 AND NOT needs MATCHES "not found")
    set(${result} TRUE PARENT_SCOPE)
  endif()
endfunction()

# Decides HOPFIELD_WITH_CUDA from HOPFIELD_CUDA, nvcc and the LibTorch at hand.
macro(hopfield_decide_cuda cuda_usable)
  set(HOPFIELD_WITH_CUDA FALSE)
  if(DEFINED HOPFIELD_CUDA AND NOT HOPFIELD_CUDA STREQUAL "OFF")
    find_program(HOPFIELD_NVCC nvcc HINTS "$ENV{CUDACXX}" "$ENV{CUDA_HOME}/bin" /usr/local/cuda/bin NO_CACHE)
    if(HOPFIELD_NVCC AND ${cuda_usable})
      set(HOPFIELD_WITH_CUDA TRUE)
    elseif(NOT HOPFIELD_CUDA STREQUAL "AUTO")
      message(FATAL_ERROR "Hopfield: HOPFIELD_CUDA=ON needs nvcc (found: ${HOPFIELD_NVCC}) and a LibTorch whose CUDA "
                          "libraries can be loaded (found: ${${cuda_usable}}). Install the CUDA Toolkit and run "
                          "scripts/bootstrap.sh --full, or pass -DHOPFIELD_CUDA=OFF.")
    endif()
  endif()
endmacro()

function(hopfield_link_torch_directly root cuda_usable)
  foreach(name IN ITEMS c10 torch_cpu)
    add_library(Hopfield::${name} SHARED IMPORTED GLOBAL)
    set_target_properties(Hopfield::${name} PROPERTIES IMPORTED_LOCATION "${root}/lib/lib${name}.so")
  endforeach()
  target_link_libraries(Hopfield::Torch INTERFACE Hopfield::torch_cpu Hopfield::c10)
  target_include_directories(Hopfield::Torch SYSTEM INTERFACE
                             "${root}/include" "${root}/include/torch/csrc/api/include")
  if(cuda_usable)
    # Nothing refers to the CUDA half by name: it registers its kernels when it is loaded.
    target_link_options(Hopfield::Torch INTERFACE
                        "LINKER:--push-state,--no-as-needed,${root}/lib/libtorch_cuda.so,--pop-state")
  endif()
endfunction()

# A macro: find_package(Torch) has to run in the caller's directory scope.
macro(hopfield_find_torch)
  if(NOT TARGET Hopfield::Torch)
    add_library(Hopfield::Torch INTERFACE IMPORTED GLOBAL)
    set(HOPFIELD_WITH_CUDA FALSE)
    if(TARGET torch)
      target_link_libraries(Hopfield::Torch INTERFACE torch)
      get_target_property(hopfield_torch_includes torch INTERFACE_INCLUDE_DIRECTORIES)
      list(GET hopfield_torch_includes 0 hopfield_torch_root)
      get_filename_component(hopfield_torch_root "${hopfield_torch_root}" DIRECTORY)
      hopfield_decide_cuda(CUDA_FOUND)
    else()
      hopfield_locate_torch(hopfield_torch_root)
      if(NOT hopfield_torch_root)
        message(FATAL_ERROR "Hopfield: LibTorch was not found. Run scripts/bootstrap.sh, or install it with "
                            "`pip install torch`, or pass -DTorch_DIR=<folder of TorchConfig.cmake>.")
      endif()
      hopfield_torch_cuda_usable("${hopfield_torch_root}" hopfield_torch_cuda)
      hopfield_decide_cuda(hopfield_torch_cuda)
      if(HOPFIELD_WITH_CUDA)
        hopfield_load_torch_package("${hopfield_torch_root}")
        target_link_libraries(Hopfield::Torch INTERFACE torch)
      else()
        hopfield_link_torch_directly("${hopfield_torch_root}" ${hopfield_torch_cuda})
      endif()
      set(hopfield_torch_includes "${hopfield_torch_root}/include")
    endif()
    hopfield_torch_version("${hopfield_torch_includes}" HOPFIELD_TORCH_VERSION)
    message(STATUS "LibTorch ${HOPFIELD_TORCH_VERSION}: ${hopfield_torch_root} (CUDA kernels: ${HOPFIELD_WITH_CUDA})")
  endif()
endmacro()
