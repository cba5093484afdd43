"""Runs a graph and what it was rewritten to on the same inputs, to see whether they still compute the same."""

from collections.abc import Mapping, Sequence
from math import prod
from threading import Timer

import numpy as np
import onnx

from toolchain.errors import ModelError
from toolchain.graph.model import Graph, Value

# A rewrite changes when or by which version of an operator a value is computed, so outputs differ by rounding at most.
TOLERANCE = 1e-5

# What a trial may take: number of input values, and seconds.
MAX_TRIAL_VALUES = 2**26
MAX_TRIAL_SECONDS = 60.0


def largest_difference(one: Graph, other: Graph, feeds: Mapping[str, np.ndarray]) -> float:
    """Return the largest difference between the outputs, relative to the largest value of the output.

    It is infinite where shapes differ, and NaN where an output has become NaN.

    Args:
        one: the graph as it was.
        other: what it was rewritten to; names of inputs and outputs are the same.
        feeds: all inputs, by name.

    Raises:
        ModelError: an input or output is no tensor, or one of the two does not run.
    """
    if any(value.kind != "tensor" for value in (*one.inputs, *one.outputs)):
        raise ModelError("an input or output is no tensor")
    names = [value.name for value in one.outputs]
    pairs = zip(run(one.proto, names, feeds), run(other.proto, names, feeds), strict=True)
    return float(np.max([_relative(expected, got) for expected, got in pairs]))  # NaN where one of them is


def random_feeds(graph: Graph) -> dict[str, np.ndarray]:
    """Return random inputs in which every open dimension has size 1.

    Raises:
        ModelError: an input is too large to try.
    """
    generator = np.random.default_rng(0)
    return {value.name: _random(value, generator) for value in graph.inputs}


def run(proto: onnx.ModelProto, names: Sequence[str], feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """Return the outputs ``names`` as ONNX Runtime computes them without any optimization.

    Raises:
        ModelError: the runtime does not load the model, it fails on ``feeds``, or it takes too long.
    """
    import onnxruntime  # noqa: PLC0415 - few models need it, and inspecting one should not wait for it

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4  # a model's warnings were told when it was made, and errors are raised
    limit = onnxruntime.RunOptions()
    limit.log_severity_level = 4
    stop = Timer(MAX_TRIAL_SECONDS, setattr, (limit, "terminate", True))
    stop.start()
    try:
        session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
        outputs: list[np.ndarray] = session.run(list(names), dict(feeds), limit)
    except Exception as error:  # ONNX Runtime's errors have no common parent below Exception
        raise ModelError(str(error)) from error
    finally:
        stop.cancel()
    return outputs


def _random(value: Value, generator: np.random.Generator) -> np.ndarray:
    shape = [size if isinstance(size, int) and size > 0 else 1 for size in value.shape or ()]
    if prod(shape) > MAX_TRIAL_VALUES:
        raise ModelError(f"input {value.name!r} of shape {list(value.shape or ())} is too large to try")
    if value.dtype.kind in "iub":
        return generator.integers(0, 2, shape).astype(value.dtype)  # indices that every embedding has
    return generator.standard_normal(shape).astype(value.dtype)


def _relative(expected: np.ndarray, got: np.ndarray) -> float:
    if expected.shape != got.shape:
        return float("inf")
    if np.array_equal(expected, got, equal_nan=expected.dtype.kind == "f"):
        return 0.0
    if expected.dtype.kind not in "fiub":
        return float("inf")
    wide = expected.astype(np.float64)
    return float(np.abs(wide - got).max() / max(np.abs(wide).max(), 1e-30))
