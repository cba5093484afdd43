"""Writes the plain model of a packed one: every stored tensor an ordinary initializer, every other node as it was.

For runtimes and tools that do not decode at load, and to look into. ONNX Runtime computes the tensors, by the same
kernels as when it loads the packed file, so that both compute the same bits.
"""

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from toolchain.bench.inputs import Shape, prepare
from toolchain.errors import ExportError, ModelError
from toolchain.graph import IR_FREE_INITIALIZERS, Graph, load_graph, save_proto
from toolchain.measure.session import open_session, run_session
from toolchain.outputs import check_output

# The operators that rebuild tensors. None depends on anything but its inputs, and none is an operator that a session
# must see to choose an integer kernel, as DequantizeLinear is.
DECODERS = frozenset(
    (
        *("Add", "BitShift", "Cast", "Concat", "ConstantOfShape", "CumSum", "Expand", "Gather", "Identity"),
        *("MatMulInteger", "Mod", "Mul", "Pad", "Reshape", "ScatterElements", "Slice", "Split", "Squeeze", "Sub"),
        *("Tile", "Transpose", "Unsqueeze"),
    )
)
# The element types of what they rebuild. Integers of other types are shapes and the like, which a model may compute.
STORED = ("float32", "int8", "uint8")


@dataclass(frozen=True)
class Unpacked:
    """What was done.

    Attributes:
        path: the plain model.
        tensors: how many tensors became ordinary initializers.
        packed_bytes: size of the packed file.
        bytes: size of the plain one.
        samples: on how many samples both computed the same bits.
    """

    path: Path
    tensors: int
    packed_bytes: int
    bytes: int
    samples: int


def unpack(
    model: Path, output: Path, shapes: Mapping[str, Shape] | None = None, inputs: Path | None = None
) -> Unpacked:
    """Write ``model`` with ordinary initializers to ``output``, once ONNX Runtime computes the same bits with both.

    Args:
        model: a file that ``compress`` wrote, or one with sparse initializers.
        output: the file to write.
        shapes: of inputs, for the comparison, by name.
        inputs: an ``.npz`` or ``.npy`` file of samples to compare on; None takes random ones.

    Raises:
        ModelError: the model cannot be read, or nothing in it is packed.
        DataError: its signature says too little to run it, or the samples do not fit.
        ExportError: the output is the input or cannot be written, or the plain model computes something else.
    """
    check_output(model, output, None, () if inputs is None else (inputs,))
    graph = load_graph(model)
    plain, count = unpacked(graph)
    if not count:
        raise ModelError(
            f"{model} is not packed: none of its tensors is sparse or rebuilt when a session loads",
            hint="give a file that compress wrote; this one already has ordinary initializers",
        )
    prepared = prepare(graph, None, shapes or {}, inputs, str(model))
    draft = output.with_name(f"{output.name}.part")
    try:
        save_proto(plain, draft)
        _check_same(model, draft, prepared.feeds)
        draft.replace(output)
    finally:
        draft.unlink(missing_ok=True)
    return Unpacked(output, count, model.stat().st_size, output.stat().st_size, prepared.batch)


def unpacked(graph: Graph) -> tuple[onnx.ModelProto, int]:
    """Return the model with every packed tensor as an ordinary initializer, and how many those are."""
    proto = graph.proto
    decoders = _decoders(proto.graph)
    sparse = {item.values.name for item in proto.graph.sparse_initializer}
    values = _decoded(proto, decoders, _results(proto.graph, decoders, sparse))
    others = {name for name, value in values.items() if value.dtype.name not in STORED and name not in sparse}
    staying = _makers(decoders, others)
    made = {name for node in staying for name in node.output}
    kept = [name for name in values if name not in made]
    plain = onnx.ModelProto()
    plain.CopyFrom(proto)
    plain.graph.ClearField("sparse_initializer")
    gone = {node.output[0] for node in decoders} - {node.output[0] for node in staying}
    nodes = [node for node in plain.graph.node if not node.output or node.output[0] not in gone]
    read = {value.name for value in proto.graph.output}.union(*map(_reads, nodes))
    dropped = {name for node in decoders if node.output[0] in gone for name in node.input} - read
    constants = [item for item in plain.graph.initializer if item.name not in dropped]
    constants += [numpy_helper.from_array(values[name], name) for name in kept]
    nodes = [node for node in nodes if node.op_type != "Constant" or node.output[0] not in dropped]
    for field, items in (("node", nodes), ("initializer", constants)):
        plain.graph.ClearField(field)
        getattr(plain.graph, field).extend(items)
    return plain, len(kept)


def _decoders(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """Return the nodes that compute from constants alone, in order."""
    constant = {item.name for item in graph.initializer} | {item.values.name for item in graph.sparse_initializer}
    constant -= {value.name for value in graph.input}  # those can be fed
    constant.add("")
    found = []
    for node in graph.node:
        if node.domain not in ("", "ai.onnx"):
            continue
        if node.op_type == "Constant":
            constant.update(node.output)
        elif node.op_type in DECODERS and constant.issuperset(node.input):
            constant.update(node.output)
            found.append(node)
    return found


def _results(graph: onnx.GraphProto, decoders: Sequence[onnx.NodeProto], sparse: Iterable[str]) -> list[str]:
    """Return which of the values that decoders make, and of the sparse ones, others read or the model gives out."""
    own = {node.output[0] for node in decoders}
    others = [node for node in graph.node if not node.output or node.output[0] not in own]
    read = {value.name for value in graph.output}.union(*map(_reads, others))
    return [name for name in chain(sparse, *(node.output for node in decoders)) if name in read]


def _reads(node: onnx.NodeProto) -> set[str]:
    """Return the values that a node, and the graphs inside of it, read."""
    found = set(node.input)
    for attribute in node.attribute:
        for body in (attribute.g, *attribute.graphs):
            found.update(value.name for value in body.output)
            found.update(*map(_reads, body.node))
    return found


def _makers(decoders: Sequence[onnx.NodeProto], names: Iterable[str]) -> list[onnx.NodeProto]:
    """Return those of the decoders, in order, that ``names`` depend on."""
    wanted, found = set(names), []
    for node in reversed(decoders):
        if wanted.intersection(node.output):
            wanted.update(node.input)
            found.append(node)
    return found[::-1]


def _decoded(proto: onnx.ModelProto, decoders: Sequence[onnx.NodeProto], names: Sequence[str]) -> dict[str, np.ndarray]:
    """Return the values of ``names``, as ONNX Runtime decodes them."""
    if not names:
        return {}
    prefix = "y" * (1 + max(map(len, names)))  # longer than all names, so like none
    results = [helper.make_node("Identity", [name], [f"{prefix}{number}"]) for number, name in enumerate(names)]
    needed = {name for node in decoders for name in node.input}
    constants = [node for node in proto.graph.node if node.op_type == "Constant" and node.output[0] in needed]
    graph = onnx.GraphProto(
        name="decoders",
        node=[*constants, *decoders, *results],
        initializer=[item for item in proto.graph.initializer if item.name in needed],
        sparse_initializer=proto.graph.sparse_initializer,
        output=[onnx.ValueInfoProto(name=node.output[0]) for node in results],
    )
    model = onnx.ModelProto(
        graph=graph, opset_import=proto.opset_import, ir_version=max(proto.ir_version, IR_FREE_INITIALIZERS)
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "decoders.onnx"
        save_proto(model, path)
        found = run_session(open_session(path, threads=1), {})
    return {name: found[node.output[0]] for name, node in zip(names, results, strict=True)}


def _check_same(packed: Path, plain: Path, feeds: Mapping[str, np.ndarray]) -> None:
    """Raise unless both files compute the same bits."""
    expected, got = (run_session(open_session(path, threads=1), feeds) for path in (packed, plain))
    for name, value in expected.items():
        if value.dtype != got[name].dtype or value.tobytes() != got[name].tobytes():
            raise ExportError(
                f"output {name!r} of the unpacked model differs from the packed one's, so nothing was written",
                hint="this version of ONNX Runtime optimizes the two differently; report this model",
            )
