"""What a model holds, and what can be pruned and quantized: ``compress inspect``.

Nothing is run, so models that use operators which cannot be imported are shown as well.
"""

import json
import os
import shutil
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from io import StringIO

import onnx
from rich.console import Console
from rich.table import Table
from rich.text import Text

from toolchain.execution.program import survey
from toolchain.execution.trainable import usable_weights
from toolchain.graph import Graph, Node, Value, Weight, load_graph, model_files, simplify, widen
from toolchain.planning.pruning import largest_ratio


@dataclass(frozen=True)
class Port:
    """A graph input or output: a dimension is a number, a symbol's name, or None; no shape at all is None.

    Attributes:
        name: of the value.
        dtype: element type, such as ``"float32"`` or ``"sequence of float32"``.
        shape: of the tensor, or of the tensors in it.
    """

    name: str
    dtype: str
    shape: tuple[int | str | None, ...] | None


@dataclass(frozen=True)
class TensorRow:
    """One constant tensor.

    Attributes:
        name: initializer name.
        op: operators that use it.
        shape: its dimensions.
        weights: number of elements.
        share: part of all elements of all constant tensors, 0..1.
        reason: why it can be neither pruned nor quantized; empty when it can be both.
    """

    name: str
    op: str
    shape: tuple[int, ...]
    weights: int
    share: float
    reason: str


@dataclass(frozen=True)
class Inspection:
    """Everything that ``compress inspect`` shows.

    Attributes:
        model: path of the file, or what was given in its place.
        file_bytes: size of the model, external data included.
        opsets: version by domain.
        inputs: what must be fed.
        outputs: what comes out.
        operators: number of nodes in the file by operator type, most frequent first.
        frozen: the same, of the operators that ONNX Runtime runs inside the module: no gradient passes them and their
            weights stay as they are.
        unsupported: the same, of the operators that neither this toolchain nor ONNX Runtime has.
        tensors: every constant tensor that a node uses once constant expressions are folded, in graph order.
        weights: elements of all constant tensors.
        usable_weights: those that can be pruned and quantized.
        largest_ratio: the largest overall ``--prune`` that can be reached; None with nothing to prune.
        note: what was folded so that a hidden weight shows, or why it was not; empty where none is hidden.
    """

    model: str
    file_bytes: int
    opsets: dict[str, int]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    operators: dict[str, int]
    frozen: dict[str, int]
    unsupported: dict[str, int]
    tensors: tuple[TensorRow, ...]
    weights: int
    usable_weights: int
    largest_ratio: float | None
    note: str


def inspect(model: str | os.PathLike[str] | bytes | onnx.ModelProto) -> Inspection:
    """Read ``model``, a path, bytes or a proto, and describe it.

    Raises:
        ModelError: the file cannot be read or is not a valid ONNX model.
    """
    original = load_graph(model)
    wide, widened = widen(original)
    graph, note = simplify(wide)
    frozen, unsupported = survey(graph)
    weights = usable_weights(graph)
    total = sum(weight.size for weight in weights)
    usable = [weight for weight in weights if not weight.reason]
    usable_size = sum(weight.size for weight in usable)
    return Inspection(
        model=str(original.path or f"a model given as {type(model).__name__}"),
        file_bytes=_size(original),
        opsets={domain or "ai.onnx": version for domain, version in graph.opsets.items()},
        inputs=tuple(map(_port, graph.inputs)),
        outputs=tuple(map(_port, graph.outputs)),
        operators=_count(original.walk()),
        frozen=_count(frozen),
        unsupported=_count(unsupported),
        tensors=tuple(_row(weight, total) for weight in weights),
        weights=total,
        usable_weights=usable_size,
        largest_ratio=largest_ratio(usable_size, len(usable)) if usable else None,
        note="; ".join(filter(None, (widened, note))),
    )


def _size(graph: Graph) -> int:
    if graph.path is None:
        return graph.proto.ByteSize()
    return sum(file.stat().st_size for file in model_files(graph.path))


def to_json(inspection: Inspection) -> str:
    """Return the inspection as indented JSON."""
    return json.dumps(asdict(inspection), indent=2)


def render_inspection(inspection: Inspection, width: int | None = None) -> str:
    """Return the inspection as text for a terminal of ``width`` columns; None asks the terminal."""
    buffer = StringIO()
    console = Console(file=buffer, width=width or shutil.get_terminal_size((120, 40)).columns, highlight=False)
    console.print(_facts(inspection))
    if inspection.tensors:
        console.print()
        console.print(_tensor_table(inspection.tensors))
    console.print()
    for line in _totals(inspection):
        console.print(_plain(line))
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines())


def _port(value: Value) -> Port:
    kind = str(value.dtype) if value.kind == "tensor" else f"{value.kind} of {value.dtype}"
    return Port(value.name, kind, value.shape)


def _row(weight: Weight, total: int) -> TensorRow:
    share = weight.size / total if total else 0.0
    return TensorRow(weight.name, weight.op, weight.shape, weight.size, share, weight.reason)


def _count(nodes: Iterable[Node]) -> dict[str, int]:
    counts = Counter(f"{node.domain}.{node.op}" if node.domain else node.op for node in nodes)
    return dict(counts.most_common())


def _facts(inspection: Inspection) -> Table:
    table = Table.grid(padding=(0, 2))
    facts = {
        "model": f"{inspection.model}, {inspection.file_bytes:,} bytes",
        "opset": ", ".join(f"{domain} {version}" for domain, version in inspection.opsets.items()),
        "inputs": "\n".join(map(_port_text, inspection.inputs)),
        "outputs": "\n".join(map(_port_text, inspection.outputs)),
        "operators": _counted(inspection.operators),
    }
    if inspection.frozen:
        facts["frozen"] = f"{_counted(inspection.frozen)} (run by ONNX Runtime as they stand: no gradient passes them)"
    if inspection.unsupported:
        facts["not supported"] = _counted(inspection.unsupported)
    for key, value in facts.items():
        table.add_row(key, _plain(value))
    return table


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())


def _port_text(port: Port) -> str:
    dims = "?" if port.shape is None else ", ".join("?" if dim is None else str(dim) for dim in port.shape)
    return f"{port.name}: {port.dtype} [{dims}]"


def _tensor_table(rows: tuple[TensorRow, ...]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("tensor", "operator", "shape"):
        table.add_column(heading, overflow="fold")
    for heading in ("weights", "share"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("prune and quantize", overflow="fold")
    for row in rows:
        table.add_row(
            _plain(row.name),
            _plain(row.op),
            "x".join(map(str, row.shape)) or "scalar",
            f"{row.weights:,}",
            f"{row.share:.1%}",
            _plain(f"no: {row.reason}" if row.reason else "yes"),
        )
    return table


def _totals(inspection: Inspection) -> list[str]:
    usable = sum(not row.reason for row in inspection.tensors)
    lines = [
        f"{usable} of {len(inspection.tensors)} tensors can be pruned and quantized: "
        f"{inspection.usable_weights:,} of {inspection.weights:,} values."
    ]
    if inspection.largest_ratio is not None:
        lines.append(
            f"The largest --prune that can be reached is {inspection.largest_ratio:.2f}x: every tensor keeps a weight."
        )
    if inspection.note:
        lines.append(f"note: {inspection.note}")
    if inspection.unsupported:
        lines.append("Operators that nobody has must be replaced before this model can be compressed.")
    return lines


def _plain(text: str) -> Text:
    """Return text that is neither markup nor, as names come from the model, able to control the terminal."""
    return Text("".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text))
