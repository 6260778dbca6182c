"""The text decoder in plain numpy: slow, short, and written from the description of the model alone.

Imported by the project's own tests and tools only. It shares no code with the compiled half, not even the file reader,
so that a mistake has to be made twice to go unnoticed. Every function takes and returns arrays of one dtype, float64
(the exact answer) or float32 (the same roundings as the kernels, in another order of summation).
"""

from .drafter import ReferenceDrafter, draft
from .model import Reference
from .safetensors import Tensors, read_file, read_folder

__all__ = ["Reference", "ReferenceDrafter", "Tensors", "draft", "read_file", "read_folder"]
