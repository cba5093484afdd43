"""``toolchain.load`` and ``toolchain.save``: between an ONNX file and a trainable module."""

import os
from pathlib import Path

import numpy as np
import onnx

from toolchain.errors import ExportError, ModelError
from toolchain.graph import load_graph, save_graph
from toolchain.graph.constants import same_bits
from toolchain.module import OnnxModule
from toolchain.ops import to_numpy


def load(model: str | os.PathLike[str] | bytes | onnx.ModelProto) -> OnnxModule:
    """Import an ONNX model as a torch module, in evaluation mode; ``.train()`` changes that.

    ``module({input name: tensor or array})`` gives ``{output name: tensor}``, as ONNX Runtime does, with gradients;
    ``module.parameters()`` are the trainable weights, ``module.weights()`` the same by initializer name.

    Args:
        model: the path of a file, with its external data beside it, its bytes, or a proto; the latter is not copied.

    Raises:
        ModelError: the model is missing, damaged or invalid, or has an operator that neither this toolchain nor ONNX
            Runtime knows; ``toolchain.inspect`` lists those.
    """
    if not isinstance(model, str | os.PathLike | bytes | onnx.ModelProto):
        raise ModelError(f"a model is given as a path, bytes or a ModelProto, got a {type(model).__name__}")
    return OnnxModule(load_graph(model)).eval()


def save(module: OnnxModule, path: str | os.PathLike[str]) -> None:
    """Write a module as the ONNX model that it was loaded from, with its present weights in the place of the old ones.

    Names, order, metadata, opset and the encoding of every tensor stay; a module that nobody trained gives the same
    bytes. External data are written beside ``path`` under the names that they have beside the original. Every file is
    there as a whole or not at all.

    Args:
        module: from ``toolchain.load``; running statistics are written as well.
        path: the file to write; what the module was loaded from is never written.

    Raises:
        ExportError: a file cannot be written, is an original, or belongs to something else; the external data have
            changed since; a weight has another type or shape than in the file, or a value that it cannot have there.
    """
    if not isinstance(module, OnnxModule):
        raise ExportError(
            f"only a module that toolchain.load made can be saved, got a {type(module).__name__}",
            hint="toolchain.save(module, path)",
        )
    initializers = module.graph.initializers
    rounded = sorted(module.formats.keys() - initializers.keys())
    if rounded:
        raise ExportError(
            f"the module rounds {', '.join(rounded)} as no operator of the original does", hint="use toolchain.compress"
        )
    values: dict[str, np.ndarray] = {}
    for name, tensor in (module.weights() | module.buffers_by_name()).items():
        array = to_numpy(tensor)
        if array.shape != initializers.shape(name) or not same_bits(array, initializers[name]):
            values[name] = array
    save_graph(module.graph, Path(path), values)
