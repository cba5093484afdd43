"""Which constants of a graph are weights: those that train, and those of them that can be compressed."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from toolchain.execution.program import Program, survey
from toolchain.graph import Graph, Initializers, Weight, find_weights

# Elementwise operands train only as biases and scales, with one dimension other than 1: a matrix that is added or
# multiplied is as a rule a mask or a table of positions, which must not move. So are vectors of whole numbers, and
# what is applied to an input of the graph prepares it.
TRAINABLE_VECTORS = {"Add": (0, 1), "Mul": (0, 1), "Sub": (1,)}

# What operators take as measured and not as learnt.
STATISTICS = {"BatchNormalization": (3, 4)}

# What only rearranges its first input (Concat: all of them): a weight behind it is still that weight.
REARRANGING = {
    "Cast",
    "Concat",
    "Expand",
    "Flatten",
    "Identity",
    "Reshape",
    "Slice",
    "Split",
    "Squeeze",
    "Transpose",
    "Unsqueeze",
}


def usable_weights(graph: Graph) -> tuple[Weight, ...]:
    """Return every constant tensor that a node uses; what ONNX Runtime runs inside the module cannot be compressed."""
    frozen = {name for node in survey(graph)[0] for name in node.reads}
    reason = "ONNX Runtime runs an operator that uses it, so it stays as it is"
    return tuple(
        replace(weight, axis=None, reason=reason) if weight.name in frozen and not weight.reason else weight
        for weight in find_weights(graph)
    )


def trainable_weights(program: Program, graph: Graph) -> set[str]:
    """Return the names of the float initializers that are weights, wherever in the model they are used."""
    initializers, inputs = graph.initializers, {value.name for value in graph.inputs}
    sources = {
        name: step.inputs if step.op == "Concat" else step.inputs[:1]
        for step in program.all_steps()
        if step.op in REARRANGING
        for name in step.outputs
    }
    found: set[str] = set()
    statistics: set[str] = set()  # some files store a bias and a mean that are equal once
    for step in program.all_steps():
        used = [step.inputs[position] for position in step.trainable if position < len(step.inputs)]
        found |= {name for start in used for name in _behind(start, sources) if _is_float(initializers, name)}
        operands = () if inputs & set(step.inputs) else TRAINABLE_VECTORS.get(step.op, ())
        vectors = [step.inputs[k] for k in operands if k < len(step.inputs)]
        found |= {name for name in vectors if _is_float(initializers, name) and _is_vector(initializers, name)}
        statistics |= {step.inputs[k] for k in STATISTICS.get(step.op, ()) if k < len(step.inputs)}
    frozen = {name for island in program.islands for name in island.constants}  # their sessions keep the file's values
    return found - statistics - frozen


def _behind(name: str, sources: Mapping[str, tuple[str, ...]]) -> Iterator[str]:
    """Yield the values that ``name`` is a rearrangement of."""
    waiting, seen = [name], {name}
    while waiting:
        name = waiting.pop()
        if name in sources:
            fresh = dict.fromkeys(item for item in sources[name] if item not in seen)
            seen |= fresh.keys()
            waiting.extend(fresh)
        else:
            yield name


def _is_float(initializers: Initializers, name: str) -> bool:
    if name not in initializers or not initializers.size(name):
        return False
    return initializers.dtype(name).name in ("float32", "float16", "bfloat16", "float64")


def _is_vector(initializers: Initializers, name: str) -> bool:
    """Return whether a tensor has one dimension other than 1 and values that somebody trained."""
    if not 1 < initializers.size(name) == max(initializers.shape(name)):
        return False
    values = initializers[name].astype(np.float64)
    if not np.isfinite(values).all():
        return False
    whole = np.array_equal(values, np.round(values))
    return not whole or values.min() == values.max()  # a bias of zeros or a scale of ones is where training begins
