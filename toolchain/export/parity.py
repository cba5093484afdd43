"""Holds the exported file in ONNX Runtime against the torch module."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch

from toolchain.errors import ExportError
from toolchain.export.differences import TensorDifference, difference, inner_values, module_values
from toolchain.export.sessions import open_session, run_outputs
from toolchain.graph import Node
from toolchain.module import OnnxModule
from toolchain.ops import to_numpy

# Largest error allowed, as a part of the largest magnitude of the reference. Measured (onnxruntime 1.31.1, LeNet-5 and
# ResNet-20, 64 images): float 1e-7 to 5e-7, another order of summation. int8 up to 0.013: a sum that lies on the border
# of two steps is rounded to either, and a step is 1/255 of the range, layer after layer. nbits and dynamic up to 0.010:
# they round activations by the range of the run, which the module does as well where nobody else reads them, and float
# where the processor has no such kernel. A wrong layout, scale or zero point is off by the order of the output.
TOLERANCES = {"float": 1e-3, "nbits": 0.05, "dynamic": 0.05, "int8": 0.1}

# Deep networks carry such roundings further than that: then every node must agree by itself, on the runtime's own
# values (an int8 node to five steps of its range), and the outputs to this part.
NODE_TOLERANCES = {"float": 1e-3, "nbits": 0.05, "dynamic": 0.05, "int8": 0.02}
# A style transfer of float kernels differs by 0.0012 as it is, before anything is compressed (720 x 720, InstanceNorm).
CARRIED = {"float": 0.01, "nbits": 0.5, "dynamic": 0.5, "int8": 0.5}

UNIT_RANGE = {"Erf", "HardSigmoid", "Sigmoid", "Softmax", "Softsign", "Tanh"}  # their values lie within -1 and 1
MOVES = {"Flatten", "Identity", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze"}

NO_CULPRIT = "no value diverges when all of them are outputs, so a fusion of the runtime is the cause"


@dataclass(frozen=True)
class OutputParity:
    """How far one output is off.

    Attributes:
        name: of the output.
        max_abs_error: the largest error, in the output's own units; None where it has not the module's shape.
        tolerance: the largest that is allowed; None where only the nodes decide: of integers, and of other shapes.
        samples: how many samples were compared by their class (``decisions``); 0 where it holds no class scores.
        same_class: the part of them that file and module put into the same class; None where there are none.
    """

    name: str
    max_abs_error: float | None
    tolerance: float | None
    samples: int = 0
    same_class: float | None = None


@dataclass(frozen=True)
class Parity:
    """The exported file against the module, over all batches.

    Attributes:
        judged: ``"end to end"``, or ``"node by node"`` where an output is off by more than the tolerance and no node is
            by itself.
        max_abs_error: of the output that comes nearest to its tolerance; None where none has one.
        tolerance: of that output: a part of its largest magnitude that depends on the kernels in the file.
        outputs: one by one.
        tensors: what is known of the values inside, on one batch; they are not judged.
    """

    judged: str
    max_abs_error: float | None
    tolerance: float | None
    outputs: tuple[OutputParity, ...]
    tensors: tuple[TensorDifference, ...] = ()


def verify(model: Path | bytes, module: OnnxModule, batches: Iterable[Mapping[str, np.ndarray]]) -> Parity:
    """Compare the outputs of ``model`` in ONNX Runtime with the module's, in evaluation mode and with its formats.

    A class or a place that tips over with a rounding is as far off as one that is wrong, so that outputs of integers,
    and those whose shape depends on values, are judged by the nodes alone.

    Raises:
        ExportError: an output is beyond the tolerance of the file's kernels; it names the first value that is.
    """
    kernel = _loosest_kernel(model)
    session, carried = open_session(model, threads=0), set[str]()
    names = [value.name for value in module.graph.outputs]
    makers = {name: node for node in module.graph.nodes for name in node.outputs}
    errors, largest, free = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0.0), set[str]()
    was_training = module.training
    module.eval()
    try:
        for batch in batches:
            got = dict(zip(names, run_outputs(session, names, batch), strict=True))
            expected = _reference(module, batch, names)
            for name in names:
                error, magnitude = difference(got[name], expected[name], _floor(name, makers))
                errors[name], largest[name] = max(errors[name], error), max(largest[name], magnitude)
                if expected[name].dtype.kind != "f" or got[name].shape != expected[name].shape:
                    free.add(name)
                if error <= TOLERANCES[kernel] * magnitude:
                    continue
                culprit = _first_diverging(model, module, makers, batch, NODE_TOLERANCES[kernel])
                if culprit or not (name in free or error <= CARRIED[kernel] * magnitude):
                    raise ExportError(
                        f"output {name!r} of the exported model is off by {error:.3g} of {magnitude:.3g} in ONNX "
                        f"Runtime, {TOLERANCES[kernel]:g} of it is allowed; {culprit or NO_CULPRIT}",
                        hint='write kernel = "float" under [export] in a recipe, and report this model',
                    )
                carried.add(name)
    finally:
        module.train(was_training)
    limits = {name: (CARRIED if name in carried else TOLERANCES)[kernel] * largest[name] for name in names}
    outputs = tuple(
        OutputParity(
            name, errors[name] if math.isfinite(errors[name]) else None, None if name in free else limits[name]
        )
        for name in names
    )
    return Parity("node by node" if carried else "end to end", *_nearest(outputs), outputs)


def _nearest(outputs: Iterable[OutputParity]) -> tuple[float | None, float | None]:
    """Return error and tolerance of the output that comes nearest to its tolerance; None where none has one."""
    pairs = [(item.max_abs_error, item.tolerance) for item in outputs]
    known = [(error, limit) for error, limit in pairs if error is not None and limit is not None]
    return max(known, key=lambda pair: pair[0] / pair[1] if pair[1] else 0.0, default=(None, None))


def _loosest_kernel(model: Path | bytes) -> str:
    proto = onnx.load_from_string(model) if isinstance(model, bytes) else onnx.load(model)
    operators = {node.op_type for node in proto.graph.node}
    if "QuantizeLinear" in operators:
        return "int8"
    if "DynamicQuantizeLinear" in operators:
        return "dynamic"
    return "nbits" if "MatMulNBits" in operators else "float"


def _reference(module: OnnxModule, batch: Mapping[str, np.ndarray], names: list[str]) -> dict[str, np.ndarray]:
    with torch.no_grad():
        return {name: to_numpy(value) for name, value in module.run(batch, names).items()}


def _floor(name: str, makers: Mapping[str, Node]) -> float:
    """Return the magnitude that a value has however small it is: that of the range of the function that it comes of.

    The runtime's Sigmoid is off by 1e-7 near 0 as anywhere else.
    """
    maker = makers.get(name)
    while maker is not None and maker.op in MOVES:
        maker = makers.get(maker.inputs[0])
    return 1.0 if maker is not None and maker.op in UNIT_RANGE else 0.0


def _first_diverging(
    model: Path | bytes,
    module: OnnxModule,
    makers: Mapping[str, Node],
    batch: Mapping[str, np.ndarray],
    tolerance: float,
) -> str:
    """Say which node is the first whose result is beyond the tolerance on the runtime's own values; ``""`` if none."""
    known = inner_values(model, makers, batch)
    for name, found in module_values(module, batch, known.keys(), known):
        node = makers[name]
        error, magnitude = difference(known[name], found, _floor(name, makers))
        if not error <= tolerance * magnitude:
            return (
                f"the first value that diverges is {name!r}, made by {node.op} node {node.name!r} "
                f"(off by {error:.3g} of {magnitude:.3g})"
            )
    return ""
