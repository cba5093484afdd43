"""Layers with a compressed weight: which kernels their formats permit, and how long each takes alone."""

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper

from calibration.observers import make_grid
from toolchain.errors import ExportError
from toolchain.export.activations import activation_formats, activation_values
from toolchain.export.draft import key_of
from toolchain.export.kernels import KERNELS
from toolchain.export.runs import rounded_values
from toolchain.export.sessions import CPU, open_session, time_interleaved
from toolchain.export.weights import weight_array
from toolchain.export.writer import write_model
from toolchain.graph import Node
from toolchain.graph.build import build_graph
from toolchain.module import OnnxModule

LAYER_SECONDS = 0.3  # for timing one layer alone by all its kernels


@dataclass(frozen=True, eq=False)
class Layer:
    """The nodes that read one compressed weight.

    Attributes:
        weight: initializer name.
        nodes: all that read it; they run by the same kernel.
        kernels: those that all its nodes permit, ``"float"`` first.
        objections: why the other kernels are not among them.
    """

    weight: str
    nodes: tuple[Node, ...]
    kernels: tuple[str, ...]
    objections: tuple[str, ...]


def find_layers(module: OnnxModule) -> tuple[Layer, ...]:
    """Return a layer for every weight that has a format, in the order of the formats."""
    consumers = module.graph.consumers()
    weights = [name for name in module.formats if name in module.graph.initializers and name in consumers]
    return tuple(_layer(module, name, tuple(dict.fromkeys(node for node, _ in consumers[name]))) for name in weights)


def _layer(module: OnnxModule, weight: str, nodes: tuple[Node, ...]) -> Layer:
    if not set(nodes) <= set(module.graph.nodes):
        return Layer(weight, nodes, ("float",), ("a subgraph uses it, and kernels are chosen outside of those",))
    permitted, objections = [], []
    for name, kernel in KERNELS.items():
        found = [kernel.objection(module.graph, node, module.formats[weight]) for node in nodes]
        reason = next((text for text in found if text), "")
        if reason:
            objections.append(reason)
        else:
            permitted.append(name)
    return Layer(weight, nodes, tuple(permitted), tuple(dict.fromkeys(objections)))


def with_activations(module: OnnxModule, kernels: Mapping[str, str], values: Mapping[str, np.ndarray]) -> OnnxModule:
    """Return the module with its weight formats and the activation formats that ``kernels`` need, for timing.

    Args:
        module: is not changed; the result shares its weights.
        kernels: by node name.
        values: a sample of every such value; its range stands in for a format that the module does not have yet.
    """
    timed = copy.copy(module)
    timed.formats = {name: found for name, found in module.formats.items() if name in module.graph.initializers}
    grids = {}
    for name in activation_values(module.graph, kernels):
        known = module.formats.get(name)
        grids[name] = known.grid if known is not None and known.grid is not None else make_grid(*_range(values[name]))
    timed.formats.update(activation_formats(module, kernels, grids))
    return timed


def _range(value: np.ndarray) -> tuple[float, float]:
    return (float(value.min()), float(value.max())) if value.size else (0.0, 0.0)


def sample_values(
    module: OnnxModule, layers: Iterable[Layer], sample: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Return the inputs of all layers, and whatever is rounded if some of them run in int8, on one batch."""
    names = dict.fromkeys(
        name
        for layer in layers
        for node in layer.nodes
        for name in node.inputs[:1]
        if name not in module.graph.initializers
    )
    kernels = {node.name: "int8" for layer in layers if "int8" in layer.kernels for node in layer.nodes}
    # With fewer of them in int8, a value that takes the grid of another here needs one of its own.
    wanted = list(names | dict.fromkeys(rounded_values(module.graph, kernels)))
    with torch.no_grad():
        return {name: value.cpu().numpy() for name, value in module.run(sample, wanted).items()}


def time_layer(
    module: OnnxModule,
    layer: Layer,
    values: Mapping[str, np.ndarray],
    threads: int,
    seconds: float,
    provider: str = CPU,
) -> dict[str, float]:
    """Return the milliseconds that a layer's nodes take alone by each kernel, quantizing its activations included.

    A kernel that cannot be written or loaded is left out.
    """
    total: dict[str, float] = dict.fromkeys(layer.kernels, 0.0)
    for node in layer.nodes:
        single = _single_node(module, node, layer.weight, values[node.inputs[0]])
        name = single.graph.nodes[0].name
        with torch.no_grad():
            outputs = single.run({node.inputs[0]: values[node.inputs[0]]}, [key_of(node.outputs)])
        seen = {node.inputs[0]: values[node.inputs[0]]} | {key: item.numpy() for key, item in outputs.items()}
        sessions = {}
        for kernel in total:
            try:
                written = write_model(with_activations(single, {name: kernel}, seen), {name: kernel}, packs=False)
                sessions[kernel] = open_session(written.proto, threads, provider=provider)
            except ExportError:
                if kernel == "float":
                    raise
        feeds = {node.inputs[0]: values[node.inputs[0]]}
        times = time_interleaved(list(sessions.values()), feeds, seconds)
        total = {kernel: total[kernel] + took for kernel, took in zip(sessions, times, strict=True)}
    return total


def time_dense(
    module: OnnxModule, weights: Iterable[str], sample: Mapping[str, np.ndarray], threads: int
) -> dict[str, float]:
    """Return the milliseconds that the nodes of every weight take alone in float, on what they read of one batch.

    Weights in subgraphs and before the data, which cannot be timed alone, are left out.
    """
    consumers, outside = module.graph.consumers(), set(module.graph.nodes)
    uses = {weight: consumers[weight] for weight in weights}
    layers = [
        Layer(weight, tuple(dict.fromkeys(node for node, _ in pairs)), ("float",), ())
        for weight, pairs in uses.items()
        if all(node in outside and position > 0 for node, position in pairs)
    ]
    values = sample_values(module, layers, sample)
    return {layer.weight: time_layer(module, layer, values, threads, LAYER_SECONDS)["float"] for layer in layers}


def _single_node(module: OnnxModule, node: Node, weight: str, value: np.ndarray) -> OnnxModule:
    """Return a module of one node, with the present weights, fed by ``value``."""
    source = module.graph.proto
    proto = onnx.ModelProto(ir_version=max(source.ir_version, 4), opset_import=source.opset_import)
    proto.graph.name = node.name
    proto.graph.node.extend(item for item in source.graph.node if key_of(item.output) == key_of(node.outputs))
    constants = dict.fromkeys(name for name in node.inputs if name in module.graph.initializers)
    proto.graph.initializer.extend(numpy_helper.from_array(weight_array(module, name), name) for name in constants)
    kind = helper.np_dtype_to_tensor_dtype(value.dtype)
    proto.graph.input.append(helper.make_tensor_value_info(node.inputs[0], kind, value.shape))
    output = helper.make_tensor_value_info(key_of(node.outputs), kind, None)
    proto.graph.output.append(output)
    single = OnnxModule(build_graph(proto)).eval()
    if weight in module.formats:
        single.formats[weight] = module.formats[weight].to(torch.device("cpu"))
    return single
