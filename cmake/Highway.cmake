# gemmule_highway: Highway (SIMD with run-time dispatch), installed or compiled from a source tree.
# Where it is looked for, and why: docs/decisions/0001-build-and-highway.md.

add_library(gemmule_highway INTERFACE)

# The targets that are not compiled, with the reasons: docs/decisions/0002-simd-targets.md. Never the baseline
# (SSE2, NEON_WITHOUT_AES). The same list holds for every file, because Highway's inline functions depend on it.
set(disabled_targets
  HWY_SSSE3 HWY_SSE4 HWY_AVX3_ZEN4 HWY_AVX3_SPR HWY_AVX10_2
  HWY_SVE HWY_SVE2 HWY_SVE_256 HWY_SVE2_128)
if(GEMMULE_SANITIZE)
  list(APPEND disabled_targets HWY_AVX3 HWY_AVX3_DL)  # compiling these with the checks takes GCC many minutes
endif()
list(JOIN disabled_targets "|" disabled_targets)
target_compile_definitions(gemmule_options INTERFACE "HWY_DISABLED_TARGETS=(${disabled_targets})")

find_package(hwy 1.2 CONFIG QUIET)
if(hwy_FOUND)
  message(STATUS "Highway: installed package ${hwy_VERSION} in ${hwy_DIR}")
  target_link_libraries(gemmule_highway INTERFACE hwy::hwy)
  return()
endif()

find_package(Python 3.10 REQUIRED COMPONENTS Interpreter)
set(named ${GEMMULE_HIGHWAY_DIR})
if(NOT named)
  set(named $ENV{GEMMULE_HIGHWAY_DIR})
endif()
execute_process(
  COMMAND ${CMAKE_COMMAND} -E env "GEMMULE_HIGHWAY_DIR=${named}"
    ${Python_EXECUTABLE} ${CMAKE_CURRENT_LIST_DIR}/find_highway.py ${CMAKE_BINARY_DIR}
  OUTPUT_VARIABLE highway OUTPUT_STRIP_TRAILING_WHITESPACE
  ERROR_VARIABLE complaint
  RESULT_VARIABLE failed)
if(failed)
  message(FATAL_ERROR "${complaint}")
endif()
message(STATUS "Highway: source tree ${highway}")

add_library(highway STATIC
  ${highway}/hwy/abort.cc
  ${highway}/hwy/aligned_allocator.cc
  ${highway}/hwy/per_target.cc
  ${highway}/hwy/print.cc
  ${highway}/hwy/targets.cc)
target_compile_definitions(highway PUBLIC HWY_STATIC_DEFINE)
target_include_directories(highway SYSTEM PUBLIC ${highway})
target_compile_options(highway PRIVATE -w)  # its warnings are not ours to mend
target_link_libraries(highway PRIVATE gemmule_options)
target_link_libraries(gemmule_highway INTERFACE highway)
