# Installs the build into a scratch prefix, then configures, builds and runs a project that only knows that prefix; a
# project that asks for another minor version must be refused.
# cmake -DBUILD_DIR=... -DSOURCE_DIR=... -DWORK_DIR=... -DTORCH_DIR=... -P run.cmake
function(run)
  execute_process(COMMAND ${ARGV} RESULT_VARIABLE status OUTPUT_VARIABLE output ERROR_VARIABLE output)
  message("${output}")
  if(NOT status EQUAL 0)
    message(FATAL_ERROR "failed: ${ARGV}")
  endif()
endfunction()

file(REMOVE_RECURSE "${WORK_DIR}")
run("${CMAKE_COMMAND}" --install "${BUILD_DIR}" --prefix "${WORK_DIR}/prefix")
set(configure "${CMAKE_COMMAND}" -G Ninja -S "${SOURCE_DIR}" "-DCMAKE_PREFIX_PATH=${WORK_DIR}/prefix"
    "-DTorch_DIR=${TORCH_DIR}" -DCMAKE_BUILD_TYPE=Release)
run(${configure} -B "${WORK_DIR}/build")
run("${CMAKE_COMMAND}" --build "${WORK_DIR}/build")
run("${WORK_DIR}/build/consumer")

file(READ "${SOURCE_DIR}/CMakeLists.txt" text)
string(REPLACE "find_package(Hopfield 0.1 " "find_package(Hopfield 0.2 " text "${text}")
file(MAKE_DIRECTORY "${WORK_DIR}/newer")
file(WRITE "${WORK_DIR}/newer/CMakeLists.txt" "${text}")
execute_process(COMMAND "${CMAKE_COMMAND}" -S "${WORK_DIR}/newer" -B "${WORK_DIR}/newer/build" "-DTorch_DIR=${TORCH_DIR}"
                        "-DCMAKE_PREFIX_PATH=${WORK_DIR}/prefix" RESULT_VARIABLE status OUTPUT_QUIET ERROR_VARIABLE error)
if(status EQUAL 0 OR NOT error MATCHES "compatible|version")
  message(FATAL_ERROR "a request for version 0.2 was not refused: ${error}")
endif()
