"""What became of every weight tensor: counted from its values, not from its masks."""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import torch

from toolchain.execution.trainable import usable_weights
from toolchain.graph import Graph, Weight, find_weights
from toolchain.graph.layout import Layout, find_layouts
from toolchain.measure.histogram import histogram
from toolchain.measure.structure import DENSE, find_structure
from toolchain.module import OnnxModule


class Stored(Protocol):
    """How the exporter stored one tensor: encoding, kernel that runs it, and its bytes in the file."""

    @property
    def encoding(self) -> str:
        """Name of the encoding, such as ``"packed"``."""

    @property
    def kernel(self) -> str:
        """Name of the kernel, such as ``"int8"``."""

    @property
    def bytes(self) -> int:
        """Bytes in the file of everything that rebuilds the tensor."""


class Choice(Protocol):
    """How a node came to its kernel."""

    @property
    def reason(self) -> str:
        """In words."""

    @property
    def alone_ms(self) -> Mapping[str, float]:
        """Milliseconds of the layer alone by each kernel that was timed."""


def weights_section(
    original: Graph,
    module: OnnxModule,
    stored: Mapping[str, Stored],
    choices: Mapping[str, Choice] | None = None,
    dead: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    """Return the report's ``weights`` section over all prunable tensors of the original model.

    Args:
        original: the model as it was.
        module: the compressed model, which may lack channels.
        stored: how each tensor that the exporter wrote lies in the file, by initializer name; a tensor that is absent
            lies there as it was, dense and in float.
        choices: the kernel that a node has, and why, by node name.
        dead: how many weights that pruning kept went out with channels that no output depended on, by tensor name.

    Returns:
        ``total`` weights, ``nonzero`` after and ``nonzero_original`` before, ``dead`` ones that were kept and went out
        with their channels (``nonzero + dead`` is the count that pruning was asked for), ``ratio`` = total / nonzero,
        ``bits_per_weight`` = bits in the file per original weight, and a row per tensor: ``shape`` and ``size`` are the
        original's, ``new_shape`` is what is left of it without channels, ``histogram`` shows the values of both.
    """
    prunable = [weight for weight in usable_weights(original) if not weight.reason]
    layouts = find_layouts(module.graph, find_weights(module.graph))
    rows = [
        _row(weight, module, stored.get(weight.name), layouts.get(weight.name))
        | _before(original.initializers[weight.name], module.tensor(weight.name))
        | {"dead": (dead or {}).get(weight.name, 0)}
        | _why(weight, choices or {})
        for weight in prunable
    ]
    total, nonzero = sum(row["size"] for row in rows), sum(row["nonzero"] for row in rows)
    return {
        "total": total,
        "nonzero": nonzero,
        "dead": sum(row["dead"] for row in rows),
        "nonzero_original": sum(int((original.initializers[weight.name] != 0).sum()) for weight in prunable),
        "ratio": total / nonzero if nonzero else None,
        "bits_per_weight": 8 * sum(row["bytes"] for row in rows) / total if total else None,
        "tensors": rows,
    }


def describe_dead(section: Mapping[str, Any]) -> str:
    """Return a sentence for the report on kept weights that are gone all the same; empty where there are none."""
    if not section["dead"]:
        return ""
    were = "was" if section["dead"] == 1 else "were"
    return (
        f"{section['nonzero']:,} weights are nonzero; {section['dead']:,} more {were} kept on channels that no output "
        "depended on, and went out with these."
    )


def _row(weight: Weight, module: OnnxModule, stored: Stored | None, layout: Layout | None) -> dict[str, Any]:
    values = module.tensor(weight.name).detach()
    tensor_format = module.formats.get(weight.name)
    grid = None if tensor_format is None else tensor_format.grid
    structure = find_structure(values.cpu(), layout)
    cut = tuple(values.shape) != weight.shape
    return {
        "name": weight.name,
        "op": weight.op,
        "shape": list(weight.shape),
        "new_shape": list(values.shape),
        "groups": 1 if layout is None else layout.groups,
        "size": weight.size,
        "nonzero": int(torch.count_nonzero(values)),
        "bits": 8 * values.element_size() if grid is None else grid.bits,
        "structure": "channel" if cut and structure == DENSE else structure,
        "encoding": stored.encoding if stored else "dense",
        "kernel": stored.kernel if stored else "float",
        "bytes": stored.bytes if stored else values.element_size() * values.numel(),
    }


def _before(original: np.ndarray, after: torch.Tensor) -> dict[str, Any]:
    return {"original_bytes": original.nbytes, "histogram": histogram(original, after.detach().cpu().numpy())}


def _why(weight: Weight, choices: Mapping[str, Choice]) -> dict[str, Any]:
    made = [choices[node] for node in weight.nodes if node in choices]
    said = dict.fromkeys(choice.reason for choice in made if choice.reason)
    times = dict(made[0].alone_ms) if made else {}  # all nodes that share the weight were timed together
    return {"kernel_reason": "; ".join(said)} | ({"kernel_ms": times} if times else {})
