"""Biases and normalization in half precision: a file of a few kilobytes is to a third made of such vectors."""

import torch
from torch import Tensor

from toolchain.graph import Node
from toolchain.module import OnnxModule

BIAS_INPUTS = {"Conv": 2, "ConvTranspose": 2, "Gemm": 2}
# Scale, bias, mean and variance.
NORMALIZATION_INPUTS = (1, 2, 3, 4)

# Half a step of float16, of numbers that it holds to its full precision.
_PRECISION = 2.0**-11


@torch.no_grad()
def round_biases(module: OnnxModule) -> tuple[str, ...]:
    """Round to float16 values what goes with a weight on a grid, and return the names.

    That is the bias of the layer, and all vectors of a BatchNormalization behind it. The grid's steps are coarser than
    float16 by orders of magnitude. What float16 cannot hold stays as it is; so does a normalization's vector with a
    number so small that float16 would not hold it to its full precision.
    """
    rounded: list[str] = []
    every = module.weights() | module.buffers_by_name()
    makers = {name: node for node in module.graph.nodes for name in node.outputs}
    for node in module.graph.nodes:
        names = [name for name in _vectors(module, node, makers) if name in every]
        rounded += [name for name in names if _round(every[name], relative=node.op == "BatchNormalization")]
    return tuple(dict.fromkeys(rounded))


def _vectors(module: OnnxModule, node: Node, makers: dict[str, Node]) -> list[str]:
    """Return the vectors of a node that go with a weight on a grid."""
    layer = makers.get(node.inputs[0]) if node.op == "BatchNormalization" else node
    if layer is None or layer.op not in BIAS_INPUTS:
        return []
    positions = (BIAS_INPUTS[node.op],) if layer is node else NORMALIZATION_INPUTS
    found = module.formats.get(layer.inputs[1])
    on_grid = found is not None and found.grid is not None
    return [node.inputs[position] for position in positions if on_grid and position < len(node.inputs)]


def _round(value: Tensor, relative: bool) -> bool:
    """Round a tensor in place where float16 holds its numbers, and return whether it does."""
    half = value.half().float()
    if value.dtype != torch.float32 or not bool(torch.isfinite(half).all()):
        return False
    if relative and bool(((half - value).abs() > _PRECISION * value.abs()).any()):
        return False
    value.copy_(half)
    return True
