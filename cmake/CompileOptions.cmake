# gemmule_options: the flags that every one of our files is compiled with.

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_CXX_VISIBILITY_PRESET hidden)
set(CMAKE_VISIBILITY_INLINES_HIDDEN ON)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release)
endif()

add_library(gemmule_options INTERFACE)
target_compile_options(gemmule_options INTERFACE
  -Wall -Wextra
  -Wno-psabi             # GCC's note on passing vectors: no vector crosses a call that is not inlined
  -ffp-contract=off      # a fused multiply-add only where the source says so: equal bits on every target
  -fno-math-errno)       # nothing reads errno after a square root

if(GEMMULE_SANITIZE)
  if(GEMMULE_SANITIZE STREQUAL "address")
    set(sanitize -fsanitize=address,undefined -fno-sanitize-recover=all)
  elseif(GEMMULE_SANITIZE STREQUAL "thread")
    set(sanitize -fsanitize=thread)
  else()
    message(FATAL_ERROR "GEMMULE_SANITIZE is \"${GEMMULE_SANITIZE}\"; want address or thread.")
  endif()
  # Little optimisation and lines only: GCC would take minutes for one kernel, and still does without these two.
  set(fast -O1 -g1 $<$<CXX_COMPILER_ID:GNU>:-fno-tree-pta> $<$<CXX_COMPILER_ID:GNU>:-fira-region=one>)
  target_compile_options(gemmule_options INTERFACE ${sanitize} -fno-omit-frame-pointer ${fast})
  target_link_options(gemmule_options INTERFACE ${sanitize})
endif()
