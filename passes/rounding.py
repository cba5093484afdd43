"""Biases in half precision: a file of a few kilobytes is to a tenth made of biases."""

import torch

from toolchain.module import OnnxModule

BIAS_INPUTS = {"Conv": 2, "ConvTranspose": 2, "Gemm": 2}


@torch.no_grad()
def round_biases(module: OnnxModule) -> tuple[str, ...]:
    """Round the biases of layers whose weight lies on a grid to float16 values, and return their names.

    The grid's steps are coarser than float16 by orders of magnitude. A bias that float16 cannot hold stays as it is.
    """
    rounded = []
    every = module.weights()
    for node in module.graph.nodes:
        position = BIAS_INPUTS.get(node.op)
        if position is None or len(node.inputs) <= position or node.inputs[position] not in every:
            continue
        weight = module.formats.get(node.inputs[1])
        bias = every[node.inputs[position]]
        half = bias.half().float()
        if weight is not None and weight.grid is not None and bool(torch.isfinite(half).all()):
            bias.copy_(half)
            rounded.append(node.inputs[position])
    return tuple(rounded)
