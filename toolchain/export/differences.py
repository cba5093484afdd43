"""How far the values inside of the exported file are from the module's, tensor by tensor.

An output may agree by chance, or be off by an error that was made far before it. So the values that layers with
compressed weights make are shown as well: they are made outputs of the file, for this comparison alone.
"""

import math
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch

from toolchain.errors import ExportError
from toolchain.export.kernels import weight_of
from toolchain.export.runs import Wiring
from toolchain.export.sessions import open_session, run_outputs
from toolchain.graph import Node
from toolchain.module import OnnxModule
from toolchain.ops import to_numpy

# A kernel took the node into another one, the node lies in a branch or a loop, or it computes with constants alone.
NOT_SHARED = "file and module do not both make this value, by a node of its own outside of subgraphs"


@dataclass(frozen=True)
class TensorDifference:
    """How far one value of the file is from the module's.

    Attributes:
        name: of the value.
        op: operator that makes it; of a value that an integer kernel rounds, the operator with the weight.
        max_abs_error: the largest error, infinite where shapes differ; None where it was not compared.
        magnitude: the largest one of the module's values; None likewise.
        reason: why it was not compared; empty where it was.
    """

    name: str
    op: str
    max_abs_error: float | None
    magnitude: float | None
    reason: str = ""


def compare_tensors(
    model: Path | bytes, module: OnnxModule, batch: Mapping[str, np.ndarray]
) -> tuple[TensorDifference, ...]:
    """Compare what layers with compressed weights make, and the outputs, end to end and in the order of the graph.

    Where an integer kernel takes in what follows its node, it is the value behind that, so that the layer is executed
    as it is without the comparison. Nothing is raised where the runtime does not run the file with more outputs: the
    file itself is judged by ``verify``. The differences then say why they were not measured.

    Args:
        model: the file.
        module: in evaluation mode, on the CPU.
        batch: what both are fed.
    """
    operators, reason = _operators(module), NOT_SHARED
    try:
        known = inner_values(model, operators, batch)
    except ExportError as error:
        known, reason = {}, str(error)
    found = {name: difference(known.pop(name), value) for name, value in module_values(module, batch, known.keys(), {})}
    return tuple(
        TensorDifference(name, op, *found[name]) if name in found else TensorDifference(name, op, None, None, reason)
        for name, op in operators.items()
    )


def inner_values(model: Path | bytes, names: Iterable[str], batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return what values of the file are in ONNX Runtime: those of ``names`` that nodes outside of subgraphs make.

    Raises:
        ExportError: the runtime does not run the file with these outputs.
    """
    proto = onnx.load_from_string(model) if isinstance(model, bytes) else onnx.load(model)
    made = {name for node in proto.graph.node for name in node.output if name}
    shown, present = [name for name in names if name in made], {value.name for value in proto.graph.output}
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in shown if name not in present)
    return dict(zip(shown, run_outputs(open_session(proto, threads=0), shown, batch), strict=True))


def module_values(
    module: OnnxModule, batch: Mapping[str, Any], names: Container[str], known: Mapping[str, Any]
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield values of the module as the file has them under their names, in topological order.

    A value on a grid is rounded there too; one that its readers round, each by the range of the run, is not.

    Args:
        module: in evaluation mode.
        batch: what it is fed.
        names: of the values that are wanted.
        known: what nodes are run on in the place of what the nodes before them make, by name.
    """
    for name, result in module.replay(batch, known):
        if name in names and isinstance(result, torch.Tensor):
            rounded = module.formats.get(name)
            yield name, to_numpy(result if rounded is None or rounded.grid is None else rounded.project(result))


def difference(got: np.ndarray, expected: np.ndarray, floor: float = 0.0) -> tuple[float, float]:
    """Return the largest absolute error and the reference's magnitude, of its finite values, or ``floor``.

    The error is infinite where shapes differ, and where one of both is not finite and the other is something else: the
    -inf of a masked score is like any other value.
    """
    if got.shape != expected.shape:
        return math.inf, 1.0
    expected, got = expected.astype(np.float64), got.astype(np.float64)
    magnitude = float(np.abs(expected[np.isfinite(expected)]).max(initial=floor))
    apart = (got != expected) & ~(np.isnan(got) & np.isnan(expected))
    errors = np.abs(got[apart & np.isfinite(got)] - expected[apart & np.isfinite(got)])
    whole = bool(np.isfinite(got[apart]).all() and np.isfinite(errors).all())
    return float(errors.max(initial=0.0)) if whole else math.inf, magnitude


def _operators(module: OnnxModule) -> dict[str, str]:
    """Return the values to compare, in the order of the graph, and the operator of each."""
    graph, wiring = module.graph, Wiring.of(module.graph)
    layers: dict[str, str] = {}
    for node in graph.walk():
        if weight_of(graph, module.formats, node) is not None:
            layers |= dict.fromkeys(_results(module, wiring, node), node.op)
    outputs = {value.name for value in graph.outputs}
    makers = {name: node.op for node in graph.walk() for name in node.outputs if name}
    return {name: layers.get(name, op) for name, op in makers.items() if name in layers or name in outputs}


def _results(module: OnnxModule, wiring: Wiring, node: Node) -> list[str]:
    """Return what a node with a compressed weight makes, or the value on a grid that its kernel makes of it."""
    behind = module.formats.get(wiring.after(node))
    if behind is not None and behind.grid is not None:
        return [wiring.after(node)]
    return [name for name in node.outputs if name]
