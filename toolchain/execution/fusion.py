"""Joins what exporters take apart and torch does in one call: a linear layer, which ONNX has as MatMul and Add.

What is joined has no value of its own any more for what was in between; whoever asks for it runs the steps as they are.
"""

from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor

from toolchain.execution.step import Step
from toolchain.graph import Initializers


def fuse(steps: Sequence[Step], initializers: Initializers, outputs: set[str]) -> list[Step]:
    """Return steps that make the same ``outputs``, with every MatMul and the bias that is added to it as one."""
    reads = Counter(name for step in steps for name in step.reads) + Counter(outputs)
    products = {step.outputs[0]: step for step in steps if step.op == "MatMul" and reads[step.outputs[0]] == 1}
    joined: dict[str, Step] = {}  # by the product that is gone
    found: list[Step] = []
    for step in steps:
        for name, bias in (step.inputs, step.inputs[::-1]) if step.op == "Add" else ():
            if name in products and _is_linear(products[name], bias, initializers):
                x, weight = products[name].inputs
                joined[name] = Step(step.name, "MatMul + Add", (x, weight, bias), step.outputs, linear)
                found.append(joined[name])
                break
        else:
            found.append(step)
    return [step for step in found if step.outputs[0] not in joined]


def _is_linear(product: Step, bias: str, initializers: Initializers) -> bool:
    weight = product.inputs[1]
    if weight not in initializers or bias not in initializers:
        return False
    shape, dtype = initializers.shape(weight), initializers.dtype(weight)
    # Torch has no joined product for every integer type, and an empty matrix does not say how many rows there are.
    return len(shape) == 2 and initializers.shape(bias) == shape[1:] and 0 not in shape and dtype.kind not in "iu"


def linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """``x @ weight + bias`` for a matrix ``weight`` ``[K, N]`` and a vector ``bias`` ``[N]``."""
    flat = torch.addmm(bias, x.reshape(-1, x.shape[-1]), weight)
    return flat.reshape(*x.shape[:-1], weight.shape[1])
