// What lies in a checkpoint's files, for the parts of gemmule that look at it without running it.
#include "bindings/bind.h"
#include "formats/checkpoint_files.h"
#include "kernels/attend.h"
#include "model/forward.h"

namespace gemmule {
namespace {

// (name, dtype as the file spells it, shape, offset in bytes, size in bytes, path of the file) of every tensor.
py::list Tensors(const std::string& folder) {
  const TensorFiles weights = OpenCheckpoint(folder).weights;
  py::list list;
  for (const TensorView& tensor : weights.tensors) {
    list.append(py::make_tuple(tensor.name, tensor.dtype_name, py::tuple(py::cast(tensor.shape)), tensor.offset,
                               tensor.bytes.size(), weights.files[tensor.file]->path()));
  }
  return list;
}

}  // namespace

void BindFiles(py::module_& module) {
  module.def("tensors", &Tensors, py::arg("folder"));
  // What memory is counted in: see gemmule.estimate.
  module.attr("CHUNK_TOKENS") = Forward::kChunk;
  module.attr("KV_BLOCK_TOKENS") = KvView::kBlock;
}

}  // namespace gemmule
