"""What an integer node computes of integers: levels, scales, and a bias in whole steps of both scales.

A bias is int32, and its scale the product of the scales of input and weight, as QLinearConv and QGemm define them. With
weights of few bits its steps are about a tenth of those of the output, so that rounding to them moves some percent of
the outputs to the next level. So the module that is exported moves its biases onto them too, and computes what the file
does: of ResNet-20 at 4 bits, four of five images then agree to the last bit, where none did.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch

from toolchain.errors import ExportError
from toolchain.export.normalized import Affine, affine_of, normalization_of
from toolchain.export.runs import STATIC, Wiring
from toolchain.export.weights import weight_array, weight_grid, weight_levels, weight_scale, weight_zero
from toolchain.formats import Rescaling, TensorFormat
from toolchain.graph import Graph, Node
from toolchain.module import OnnxModule

# Accumulated int32 products must not overflow when the bias is added: it may take half of the range.
_BIAS_LIMIT = 2.0**30
_LEAST_SCALE = 2.0**-100  # of a channel that a normalization multiplies by zero


@dataclass(frozen=True, eq=False)
class Product:
    """What an integer node computes of integers: ``scale * levels`` times its input, plus ``bias``.

    Attributes:
        levels: int8, the weight's shape.
        scale: float32, ``[]`` or ``[C]`` along ``axis``.
        axis: of the weight's outputs; None where there is one scale.
        zero: of the codes that ``levels`` are stored as, as it broadcasts over them; None where they are the levels.
        bias: float64 ``[C]``; None where there is none.
        name: of the constant that holds the bias; empty where it has to be made.
    """

    levels: np.ndarray
    scale: np.ndarray
    axis: int | None
    zero: np.ndarray | None
    bias: np.ndarray | None
    name: str


def product_of(module: OnnxModule, graph: Graph, node: Node, step: float) -> Product:
    """Return what a node of ``graph`` computes of integers in steps of ``step``, a normalization behind it taken in.

    Raises:
        ExportError: the weight is on no grid, or has left it.
    """
    plain, normalization = _plain_product(module, node), normalization_of(graph, graph.consumers(), node)
    whole = plain if normalization is None else _take_in(plain, affine_of(module, normalization))
    return _with_room(whole, step)


def _plain_product(module: OnnxModule, node: Node) -> Product:
    weight = node.inputs[1]
    grid = weight_grid(module, weight)
    if grid is None:
        raise ExportError(f"weight {weight!r} is on no grid, so it has no int8 levels")
    levels = weight_levels(module, weight)
    zero = weight_zero(module, weight)
    if zero is not None and grid.axis is not None:
        zero = zero.reshape([-1 if axis == grid.axis else 1 for axis in range(levels.ndim)])
    name = node.inputs[2] if len(node.inputs) > 2 else ""
    bias = weight_array(module, name).astype(np.float64) if name else None
    return Product(levels, weight_scale(module, weight), grid.axis, zero, bias, name)


def _take_in(plain: Product, affine: Affine) -> Product:
    """Return the product of a Conv and the normalization behind it; the scale of a channel times zero is zero."""
    bias = affine.shift if plain.bias is None else plain.bias * affine.factor + affine.shift
    signs = np.where(affine.factor < 0, -1, 1).reshape(-1, *[1] * (plain.levels.ndim - 1))
    scale = (np.abs(affine.factor) * plain.scale).astype(np.float32)
    return Product((plain.levels * signs).astype(np.int8), scale, 0, None, bias, plain.name)


def _with_room(product: Product, step: float) -> Product:
    """Return the product with steps per channel that are so large that the bias fits int32, levels rounded to them.

    Steps are too small only where weights are next to nothing beside the bias: of what is left of dead channels, of
    channels that a normalization multiplies by almost zero. What rounding changes is less than a step of the bias.
    """
    if product.axis is None or product.bias is None:
        return product
    least = np.maximum(np.abs(product.bias) / (0.9 * _BIAS_LIMIT * step), _LEAST_SCALE)
    exact = np.broadcast_to(product.scale, least.shape)
    scale = np.maximum(exact, least).astype(np.float32)
    ratio = np.where(scale > np.float32(1.0001) * exact, exact / scale, 1.0)
    across = [-1 if axis == product.axis else 1 for axis in range(product.levels.ndim)]
    levels = np.rint(product.levels * ratio.reshape(across)).astype(product.levels.dtype)
    return replace(product, levels=levels, scale=scale)


def bias_steps(node: Node, product: Product, step: float) -> np.ndarray | None:
    """Return the bias of a product in steps of its input times those of its weight, ``[C]``; None where it has none.

    Raises:
        ExportError: they are too many for int32.
    """
    if product.bias is None:
        return None
    steps: np.ndarray = np.rint(product.bias / (np.float32(step) * product.scale))
    if np.abs(steps).max() > _BIAS_LIMIT:
        raise ExportError(
            f"{node.op} node {node.name!r}: bias {product.name!r} is {np.abs(steps).max():.2g} steps of its int8 "
            f"kernel, int32 holds {_BIAS_LIMIT:.2g}",
            hint="take a grid with a scale per channel, or quant = false for this weight in a [[tensor]] of a recipe",
        )
    return steps


@torch.no_grad()
def move_biases_onto_steps(module: OnnxModule, kernels: Mapping[str, str]) -> None:
    """Move biases of integer nodes, or the shift of the normalization behind them, onto what the kernel adds.

    Args:
        module: on the CPU; the activations of the nodes are on their grids.
        kernels: by node name.

    Raises:
        ExportError: a bias is too large for int32 steps.
    """
    consumers = module.graph.consumers()
    for node in module.graph.nodes:
        source = module.formats.get(node.inputs[0]) if kernels.get(node.name) in STATIC else None
        if source is None or source.grid is None:
            continue
        step = source.grid.scale.item()
        product = product_of(module, module.graph, node, step)
        steps = bias_steps(node, product, step)
        if product.bias is None or steps is None:
            continue
        moved = torch.from_numpy(steps * (np.float32(step) * product.scale) - product.bias)
        normalization = normalization_of(module.graph, consumers, node)
        bias = module.tensor(node.inputs[2] if normalization is None else normalization.inputs[2])
        bias.copy_(bias.double() + moved.to(bias.device))


def add_rescalings(module: OnnxModule, kernels: Mapping[str, str]) -> None:
    """Let what integer nodes make, of weights and biases as they are now, be rounded in the module as in the kernel.

    A float sum is off by some units in its last place. That is enough to round one value of about 20,000 to the next
    level, and from layer to layer the differences double: a ResNet-20 with binary weights then chose another class than
    its file on 0.17 % of the samples.

    Args:
        module: on the CPU; the activations of the nodes are on their grids.
        kernels: by node name.
    """
    wiring = Wiring.of(module.graph)
    for node in module.graph.nodes:
        if kernels.get(node.name) not in STATIC or node.op not in ("Conv", "Gemm"):
            continue
        source, made = module.formats.get(node.inputs[0]), module.formats.get(wiring.after(node))
        if source is None or source.grid is None or made is None or made.grid is None:
            continue
        scale = source.grid.scale
        step = scale * torch.from_numpy(product_of(module, module.graph, node, scale.item()).scale)
        name = (normalization_of(module.graph, wiring.consumers, node) or node).outputs[0]
        before = module.formats.get(name, TensorFormat())
        module.formats[name] = replace(before, rescaling=Rescaling(step, made.grid.scale))
