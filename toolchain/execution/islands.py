"""Nodes that no operator function covers, run by ONNX Runtime inside the module: values in, values out, no gradient."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from torch import Tensor

from toolchain.graph import IR_FREE_INITIALIZERS, Node
from toolchain.graph.flatten import written
from toolchain.ops import to_tensor
from toolchain.ops.dtypes import to_numpy

# What flows between nodes: a tensor, an array of strings, a list (a sequence), a dictionary (a map), None (left out).
Content = Tensor | np.ndarray | list["Content"] | dict[object, object] | None


def runtime_knows(node: Node) -> bool:
    """Return whether the installed ONNX Runtime has the node's operator."""
    return (node.domain, node.op) in _runtime_operators()


@cache
def _runtime_operators() -> frozenset[tuple[str, str]]:
    from onnxruntime.capi import onnxruntime_pybind11_state as state  # noqa: PLC0415 - few models have islands

    return frozenset((schema.domain, schema.name) for schema in state.get_all_operator_schema())


@dataclass(frozen=True, eq=False)
class Island:
    """Consecutive nodes that are run as they stand.

    Attributes:
        nodes: in topological order, nothing that is not among them between them.
        constants: initializers that they read, by name; they are frozen.
    """

    nodes: tuple[Node, ...]
    constants: Mapping[str, np.ndarray]

    @property
    def inputs(self) -> tuple[str, ...]:
        """Values that are read and neither made inside nor constant."""
        made = {name for node in self.nodes for name in node.outputs}
        read = dict.fromkeys(name for node in self.nodes for name in node.reads)
        return tuple(name for name in read if name not in made and name not in self.constants)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Every value that is made inside."""
        return tuple(name for node in self.nodes for name in node.outputs if name)

    @property
    def operators(self) -> str:
        """The operators in it, for people."""
        return ", ".join(dict.fromkeys(f"{node.domain}.{node.op}" if node.domain else node.op for node in self.nodes))

    def runner(self) -> Callable[..., tuple[Content, ...]]:
        """Return a function from the values of ``inputs`` to those of ``outputs``.

        It makes its session when it is first called, as only then the element types are known. What it raises is named
        by the module, which knows the node.
        """
        sessions: dict[tuple[bytes, ...], Callable[[dict[str, object]], Sequence[object]]] = {}

        def run(*values: Content) -> tuple[Content, ...]:
            device = next((value.device for value in values if isinstance(value, Tensor)), torch.device("cpu"))
            feed = {name: _to_runtime(value) for name, value in zip(self.inputs, values, strict=True)}
            types = {name: _type_of(value) for name, value in feed.items()}
            key = tuple(kind.SerializeToString() for kind in types.values())
            if key not in sessions:
                sessions[key] = _session(self._model(types), list(self.outputs))
            return tuple(_from_runtime(value, device) for value in sessions[key](feed))

        return run

    def _model(self, types: Mapping[str, onnx.TypeProto]) -> onnx.ModelProto:
        opsets = {domain: version for node in self.nodes for domain, version in node.opsets.items()}
        opsets = dict.fromkeys((node.domain for node in self.nodes), 1) | opsets
        graph = helper.make_graph(
            [written(node) for node in self.nodes],
            "island",
            [helper.make_value_info(name, kind) for name, kind in types.items()],
            [helper.make_empty_tensor_value_info(name) for name in self.outputs],
            [numpy_helper.from_array(array, name) for name, array in self.constants.items()],
        )
        entries = [helper.make_opsetid(domain, version) for domain, version in opsets.items()]
        ir_version = max(helper.find_min_ir_version_for(entries, True), IR_FREE_INITIALIZERS)
        return helper.make_model(graph, opset_imports=entries, ir_version=ir_version)


def _session(model: onnx.ModelProto, outputs: list[str]) -> Callable[[dict[str, object]], Sequence[object]]:
    import onnxruntime  # noqa: PLC0415 - few models have islands

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    operators = ", ".join(dict.fromkeys(node.op_type for node in model.graph.node))
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's errors have no common parent below Exception
        raise RuntimeError(f"ONNX Runtime cannot run {operators} either: {error}") from error

    def run(feed: dict[str, object]) -> Sequence[object]:
        try:
            values: Sequence[object] = session.run(outputs, feed)
        except Exception as error:
            raise RuntimeError(f"ONNX Runtime failed to run {operators}: {error}") from error
        return values

    return run


def _to_runtime(value: Content) -> object:
    if isinstance(value, Tensor):
        if value.dtype == torch.bfloat16:
            raise ValueError("ONNX Runtime takes no bfloat16 values from Python")
        return to_numpy(value.detach().cpu())
    if isinstance(value, list):
        return [_to_runtime(item) for item in value]
    return value


def _type_of(value: object) -> onnx.TypeProto:
    """Return the ONNX type of a value as ONNX Runtime takes it; the shape stays open.

    Raises:
        ValueError: the value is an empty sequence, or of a type that cannot be an input.
    """
    if isinstance(value, np.ndarray):
        kind = onnx.TensorProto.STRING if value.dtype.kind in "OU" else helper.np_dtype_to_tensor_dtype(value.dtype)
        return helper.make_tensor_type_proto(kind, None)
    if isinstance(value, list) and value:
        return helper.make_sequence_type_proto(_type_of(value[0]))
    raise ValueError(f"a value of type {type(value).__name__} cannot be handed to ONNX Runtime")


def _from_runtime(value: object, device: torch.device) -> Content:
    if isinstance(value, np.ndarray):
        return value if value.dtype.kind in "OU" else to_tensor(value).to(device)
    if isinstance(value, list):
        return [_from_runtime(item, device) for item in value]
    if value is None or isinstance(value, dict):
        return value
    return to_tensor(np.asarray(value)).to(device)
