# A second net under the checks of our own, in what users get: where one of those is missing, the program ends before
# memory is overwritten or a jump goes astray. What it costs: docs/decisions/0033.

include(CheckCXXCompilerFlag)

target_compile_definitions(gemmule_options INTERFACE _GLIBCXX_ASSERTIONS)  # bounds of spans, vectors and optionals

# Sizes of the C library's calls are checked where the compiler knows the buffer; it does when it optimises.
target_compile_options(gemmule_options INTERFACE
  "$<$<CONFIG:Release,RelWithDebInfo,MinSizeRel>:-U_FORTIFY_SOURCE;-D_FORTIFY_SOURCE=3>"
  -fstack-protector-strong)

# The stack cannot jump over its guard page; jumps and returns go where the program has marks for them.
foreach(flag -fstack-clash-protection -fcf-protection=full -mbranch-protection=standard)
  string(MAKE_C_IDENTIFIER "takes${flag}" takes)
  check_cxx_compiler_flag(${flag} ${takes})
  if(${takes})
    target_compile_options(gemmule_options INTERFACE ${flag})
  endif()
endforeach()

# The table of addresses is read-only once it is filled, which is when the module is loaded.
target_link_options(gemmule_options INTERFACE -Wl,-z,relro,-z,now,-z,noexecstack)
