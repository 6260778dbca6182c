#include "base/cpu.h"
#include "bindings/bind.h"

namespace gemmule {
namespace {

py::dict Cpu() {
  py::dict info;
  info["target"] = Target();
  info["targets"] = py::cast(Targets());
  info["threads"] = DefaultThreads();
  info["features"] = py::cast(Features());
  return info;
}

}  // namespace

PYBIND11_MODULE(_core, module) {
  module.attr("__version__") = GEMMULE_VERSION;
  BindGil(module);
  BindErrors(module);
  SetTargetFromEnvironment();
  module.def("cpu", &Cpu);
  BindFiles(module);
  BindModel(module);
  BindDecoder(module);
  BindBatch(module);
  BindSampler(module);
  BindSource(module);
  BindCalibration(module);
  py::module_ testing = module.def_submodule("testing");
  BindTesting(testing);
  BindTokenizer(module, testing);
  BindDrafter(module, testing);
  py::module_ bench = module.def_submodule("bench");
  BindBench(bench);
}

}  // namespace gemmule
