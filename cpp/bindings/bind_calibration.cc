#include "bindings/bind.h"
#include "engine/calibration.h"

namespace gemmule {
namespace {

void Observe(Calibration& calibration, const Tokens& tokens) {
  const auto ids = Ids(tokens);
  WithoutGil(*calibration.checkpoint()->model.workers,
             [&](const Parallel::StopCheck& stop) { calibration.Observe(ids, stop); });
}

std::vector<std::pair<std::string, float>> Scales(Calibration& calibration) {
  std::vector<std::pair<std::string, float>> scales;
  WithoutGil(*calibration.checkpoint()->model.workers,
             [&](const Parallel::StopCheck& stop) { scales = calibration.Scales(stop); });
  return scales;
}

}  // namespace

void BindCalibration(py::module_& module) {
  py::class_<Calibration>(module, "Calibration")
      .def(py::init([](const Path& path, int threads) {
             const GilReleased nogil;
             return std::make_unique<Calibration>(path.string(), threads);
           }),
           py::arg("path"), py::arg("threads"))
      .def_property_readonly(
          "model",
          [](const Calibration& calibration) { return std::const_pointer_cast<Checkpoint>(calibration.checkpoint()); })
      .def("observe", &Observe, py::arg("ids").noconvert())
      .def("scales", &Scales);
}

}  // namespace gemmule
