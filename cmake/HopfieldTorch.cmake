# Finds LibTorch and defines the target Hopfield::Torch with its headers and libraries. This file is installed with the
# package.
#
# LibTorch is searched in the following order. The first one found is used, and a status line says which one and why:
#   1. the target `torch`, if the project has called find_package(Torch) before;
#   2. what the user named, in the order of find_package: the variable Torch_DIR; Torch_ROOT, as a variable and then in the
#      environment; CMAKE_PREFIX_PATH; in the environment, Torch_DIR and then CMAKE_PREFIX_PATH; Hopfield_ROOT. Each may be
#      the folder of TorchConfig.cmake, the folder share/cmake above it (torch.utils.cmake_prefix_path) or LibTorch's own
#      folder; only the variable Torch_DIR must be the first of these. A Torch_DIR or Torch_ROOT without LibTorch is an
#      error;
#   3. installations that are recent enough: the Python package torch, which is never imported, of the active environment
#      (VIRTUAL_ENV, CONDA_PREFIX), of .venv in this source tree if the library is built from it, and of python3 in the
#      PATH; then CMake's default folders.
#
# LibTorch's own package file TorchConfig.cmake is not used: it requires nvcc, changes the caller's CUDA settings and
# defines targets that are visible in one directory only. The libraries are linked directly instead.
cmake_policy(VERSION 3.21...3.25)

# hopfield_torch_config(result PATH..): the folder of TorchConfig.cmake that the first fitting path leads to, or an empty
# string.
function(hopfield_torch_config result)
  set(${result} "" PARENT_SCOPE)
  foreach(path IN LISTS ARGN)
    get_filename_component(path "${path}" ABSOLUTE)
    string(REGEX REPLACE "/TorchConfig\\.cmake$" "" path "${path}")
    foreach(form IN ITEMS "" /Torch /share/cmake/Torch /torch/share/cmake/Torch)
      if(EXISTS "${path}${form}/TorchConfig.cmake")
        set(${result} "${path}${form}" PARENT_SCOPE)
        return()
      endif()
    endforeach()
  endforeach()
endfunction()

# The version of the LibTorch in a folder. It is an empty string if LibTorch is not complete, or too old for this header.
function(hopfield_torch_version root result)
  set(version "")
  set(header "${root}/include/torch/headeronly/version.h")
  if(EXISTS "${header}")
    file(STRINGS "${header}" line REGEX "^ *\"[0-9]+\\.[0-9]+\\.[0-9]+")
    string(REGEX MATCH "[0-9]+\\.[0-9]+\\.[0-9]+" version "${line}")
  endif()
  set(${result} "${version}" PARENT_SCOPE)
endfunction()

# The folder of TorchConfig.cmake in the package torch of a Python interpreter, or an empty string. The interpreter is
# started in the folder of this file, so that it does not find a folder `torch` of the caller's project.
function(hopfield_torch_config_of_python python result)
  execute_process(
    COMMAND "${python}" -c "import importlib.util as u; s = u.find_spec('torch'); print(s.submodule_search_locations[0] if s else '')"
    WORKING_DIRECTORY "${CMAKE_CURRENT_FUNCTION_LIST_DIR}"
    OUTPUT_VARIABLE root OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET RESULT_VARIABLE status)
  set(config "")
  if(status EQUAL 0 AND root)
    hopfield_torch_config(config "${root}")
  endif()
  set(${result} "${config}" PARENT_SCOPE)
endfunction()

# Step 2 of the search. Sets `config` and `origin`, or `error`, in the caller; none of them if the user named nothing.
function(hopfield_torch_named)
  foreach(source IN ITEMS Torch_DIR Torch_ROOT "environment Torch_ROOT" CMAKE_PREFIX_PATH "environment Torch_DIR"
                          "environment CMAKE_PREFIX_PATH" Hopfield_ROOT "environment Hopfield_ROOT")
    if(source MATCHES "^environment (.*)")
      file(TO_CMAKE_PATH "$ENV{${CMAKE_MATCH_1}}" paths)
      string(REPLACE "environment " "the environment variable " name "${source}")
    else()
      set(paths "${${source}}")
      set(name "${source}")
    endif()
    if(paths STREQUAL "" OR paths STREQUAL "Torch_DIR-NOTFOUND")
      continue()
    endif()
    hopfield_torch_config(config ${paths})
    get_filename_component(path "${paths}" ABSOLUTE)
    if(name STREQUAL "Torch_DIR" AND config AND NOT config STREQUAL path)
      set(error "Torch_DIR is ${paths}, which is not the folder of TorchConfig.cmake: pass -DTorch_DIR=${config} instead.")
    elseif(config)
      set(config "${config}" PARENT_SCOPE)
      set(origin "named by ${name}" PARENT_SCOPE)
      return()
    elseif(name MATCHES "Torch_")
      set(error "${name} is ${paths}, where there is no TorchConfig.cmake: pass -DTorch_DIR=<its folder>.")
    endif()
    if(error)
      set(error "${error}" PARENT_SCOPE)
      return()
    endif()
  endforeach()
endfunction()

# Step 3 of the search. Sets `config` and `origin` in the caller if it finds LibTorch. Otherwise it sets `older` to a remark
# for the error message, which names the installations that are too old.
function(hopfield_torch_unnamed own_environment wanted)
  set(older "")
  foreach(source IN ITEMS VIRTUAL_ENV CONDA_PREFIX own python3 default)
    set(config "")
    if(source STREQUAL "own")
      if(own_environment)
        hopfield_torch_config_of_python("${own_environment}/bin/python" config)
      endif()
      set(origin "found in ${own_environment}")
    elseif(source STREQUAL "python3")
      hopfield_torch_config_of_python(python3 config)
      set(origin "found by python3")
    elseif(source STREQUAL "default")
      unset(config)
      find_path(config TorchConfig.cmake PATH_SUFFIXES share/cmake/Torch NO_CACHE)
      set(origin "found in CMake's default folders")
    elseif(NOT "$ENV{${source}}" STREQUAL "")
      hopfield_torch_config_of_python("$ENV{${source}}/bin/python" config)
      if(NOT config)
        hopfield_torch_config(config "$ENV{${source}}")
      endif()
      set(origin "found in the active environment (${source})")
    endif()
    if(config)
      get_filename_component(root "${config}/../../.." ABSOLUTE)
      hopfield_torch_version("${root}" version)
      if(NOT version VERSION_LESS wanted)
        set(config "${config}" PARENT_SCOPE)
        set(origin "${origin}" PARENT_SCOPE)
        return()
      endif()
      if(version STREQUAL "")
        set(version "of an unknown version")
      endif()
      string(APPEND older " (LibTorch ${version} at ${root}, ${origin}, is too old)")
    endif()
  endforeach()
  set(older "${older}" PARENT_SCOPE)
endfunction()

# hopfield_locate_torch(own_environment wanted) searches for LibTorch. It defines no target, but sets in the caller
#   hopfield_torch_root     the folder with LibTorch's include/ and lib/
#   hopfield_torch_origin   how it was found
#   HOPFIELD_TORCH_VERSION  its version, for example 2.11.0
#   hopfield_torch_error    an error message, or an empty string
# `wanted` is the version that is needed, 2.11.
function(hopfield_locate_torch own_environment wanted)
  set(root "")
  set(config "")
  set(origin "")
  set(error "")
  if(TARGET Hopfield::Torch)
    get_target_property(root Hopfield::Torch HOPFIELD_TORCH_ROOT)
    set(origin "taken before")
  elseif(TARGET torch)
    get_target_property(includes torch INTERFACE_INCLUDE_DIRECTORIES)
    foreach(dir IN LISTS includes)
      if(NOT root AND EXISTS "${dir}/torch/headeronly/version.h")
        get_filename_component(root "${dir}" DIRECTORY)
      endif()
    endforeach()
    set(origin "the target torch of this project")
    if(NOT root)
      set(error "This project's target torch is not LibTorch, or too old a one (include folders: ${includes}).")
    endif()
  else()
    hopfield_torch_named()
    if(NOT config AND NOT error)
      hopfield_torch_unnamed("${own_environment}" ${wanted})
    endif()
    if(config)
      get_filename_component(root "${config}/../../.." ABSOLUTE)
    elseif(NOT error)
      set(error "LibTorch ${wanted} was not found${older}. Install it, for example with `pip install \"torch==${wanted}.*\"`, \
and name it: -DTorch_DIR=<folder of TorchConfig.cmake>, or add to CMAKE_PREFIX_PATH what \
`python -c 'import torch; print(torch.utils.cmake_prefix_path)'` prints.")
    endif()
  endif()

  hopfield_torch_version("${root}" version)
  if(NOT error AND NOT version)
    set(error "The LibTorch at ${root}, ${origin}, is too old or not complete: it has no \
include/torch/headeronly/version.h. Name another one with -DTorch_DIR=<folder of TorchConfig.cmake>.")
  endif()
  set(hopfield_torch_root "${root}" PARENT_SCOPE)
  set(hopfield_torch_origin "${origin}" PARENT_SCOPE)
  set(hopfield_torch_error "${error}" PARENT_SCOPE)
  set(HOPFIELD_TORCH_VERSION "${version}" PARENT_SCOPE)
endfunction()

# Whether LibTorch's CUDA library can be loaded here. An installation for the CPU lacks the libraries that it depends on.
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

# Defines the target Hopfield::Torch for the LibTorch that hopfield_locate_torch found, in all directories of the project.
function(hopfield_define_torch)
  if(TARGET Hopfield::Torch)
    return()
  endif()
  set(root "${hopfield_torch_root}")
  add_library(Hopfield::Torch INTERFACE IMPORTED GLOBAL)
  set_target_properties(Hopfield::Torch PROPERTIES HOPFIELD_TORCH_ROOT "${root}")
  if(TARGET torch AND NOT EXISTS "${root}/lib/libtorch_cpu.so")
    target_link_libraries(Hopfield::Torch INTERFACE torch)
  else()
    foreach(name IN ITEMS torch_cpu c10)
      add_library(Hopfield::${name} SHARED IMPORTED GLOBAL)
      set_target_properties(Hopfield::${name} PROPERTIES IMPORTED_LOCATION "${root}/lib/lib${name}.so")
      target_link_libraries(Hopfield::Torch INTERFACE Hopfield::${name})
    endforeach()
  endif()
  target_include_directories(Hopfield::Torch SYSTEM INTERFACE
                             "${root}/include" "${root}/include/torch/csrc/api/include")
  hopfield_torch_cuda_usable("${root}" cuda)
  if(cuda)
    # The linker would drop the CUDA library, since no symbol of it is used: it registers its kernels when it is loaded.
    target_link_options(Hopfield::Torch INTERFACE
                        "LINKER:--push-state,--no-as-needed,${root}/lib/libtorch_cuda.so,--pop-state")
  endif()
  if(NOT Hopfield_FIND_QUIETLY)
    message(STATUS "Hopfield: LibTorch ${HOPFIELD_TORCH_VERSION} at ${root}, ${hopfield_torch_origin}")
  endif()
endfunction()
