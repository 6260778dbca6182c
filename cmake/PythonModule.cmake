# _core: the Python module, gemmule/_core.*.so.

find_package(Python 3.10 REQUIRED COMPONENTS Interpreter Development.Module)
if(NOT SKBUILD)  # scikit-build-core tells where pybind11 is
  execute_process(COMMAND ${Python_EXECUTABLE} -m pybind11 --cmakedir
    OUTPUT_VARIABLE pybind11_DIR OUTPUT_STRIP_TRAILING_WHITESPACE)
endif()
set(PYBIND11_FINDPYTHON ON)
find_package(pybind11 2.13 CONFIG REQUIRED)

file(GLOB bindings CONFIGURE_DEPENDS cpp/bindings/*.cc)
pybind11_add_module(_core NO_EXTRAS ${bindings})
target_compile_definitions(_core PRIVATE GEMMULE_VERSION="${PROJECT_VERSION}")
target_link_libraries(_core PRIVATE gemmule_cpp)
# An installed Highway may be a shared library outside the system's folders.
set_target_properties(_core PROPERTIES INSTALL_RPATH_USE_LINK_PATH ON)
install(TARGETS _core DESTINATION gemmule)
