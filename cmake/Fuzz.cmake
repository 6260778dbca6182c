# The fuzz targets of tests/fuzz, each a program of libFuzzer, and the readers they call: all of gemmule but the kernels
# and the model that calls them. A cache is a reader too: of saved chats.
# Needs Clang. Assertions are on: no input may reach one.

if(NOT CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
  message(FATAL_ERROR "the fuzz targets need Clang; this is ${CMAKE_CXX_COMPILER_ID}.")
endif()

set(sanitize -fsanitize=address,undefined -fno-sanitize-recover=all)
target_compile_options(gemmule_options INTERFACE ${sanitize} -fsanitize=fuzzer-no-link -O1 -g1 -UNDEBUG)
target_link_options(gemmule_options INTERFACE ${sanitize})

file(GLOB readers CONFIGURE_DEPENDS
  cpp/base/*.cc cpp/quant/*.cc cpp/formats/*.cc cpp/text/*.cc cpp/engine/*.cc
  cpp/model/kv_cache.cc cpp/kernels/kv_block.cc)
add_library(gemmule_readers STATIC ${readers})
target_include_directories(gemmule_readers PUBLIC cpp)
target_link_libraries(gemmule_readers PUBLIC gemmule_options gemmule_highway Threads::Threads)

file(GLOB targets CONFIGURE_DEPENDS tests/fuzz/fuzz_*.cc)
set(inputs tests/fuzz/guarded_map.cc tests/fuzz/input_file.cc tests/fuzz/input_folder.cc)
foreach(source IN LISTS targets)
  get_filename_component(name ${source} NAME_WE)
  add_executable(${name} ${source} ${inputs})
  target_link_libraries(${name} PRIVATE gemmule_readers)
  target_link_options(${name} PRIVATE -fsanitize=fuzzer LINKER:--wrap=mmap,--wrap=munmap)
endforeach()
