"""Gradients of operators against slopes: both along a random direction, on the official cases that are small."""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import onnx
import pytest
import torch
from known_gaps import NO_CASE, NO_GRADIENT, NO_GRADIENT_TO, STRAIGHT_THROUGH
from node_cases import ISLAND, feed_of, gap_of, load_cases, operators, way_of

from toolchain.errors import ToolchainError
from toolchain.graph import load_graph
from toolchain.module import OnnxModule
from toolchain.ops import registered

LARGEST = 20_000  # elements of an input

# The step of the slope and the tolerance, by the type that is computed in.
PRECISION = {torch.float64: (1e-6, 1e-5), torch.float32: (1e-2, 2e-2)}

OFFICIAL = [key for key in registered() if key[0] != "com.microsoft" and key[1] not in NO_CASE]
WITHOUT = {name: reason for reason, names in NO_GRADIENT.items() for name in names.split()}


@dataclass(frozen=True)
class Slope:
    """How fast a random projection of a case's results changes as one input moves in a random direction."""

    where: str
    gradient: float  # what autograd says, 0 where it says nothing
    numeric: float
    scale: float  # of the projection

    @property
    def agrees(self):
        tolerance = PRECISION[torch.float64 if self.where.endswith("float64") else torch.float32][1]
        largest = max(abs(self.gradient), abs(self.numeric), abs(self.scale), 1e-3)
        return abs(self.gradient - self.numeric) <= tolerance * largest


class WrongTypeError(Exception):
    """A result is in another precision."""


class Cases(defaultdict):
    """Cases by operator."""

    def __repr__(self):
        return "Cases"


@pytest.fixture(scope="module")
def cases():
    found = Cases(list)
    for case in load_cases():
        used = operators(case.model.graph)
        if len(used) == 1 and gap_of(case) is None:
            found[next(iter(used))].append(case)
    return found


def is_float(value):
    return isinstance(value, np.ndarray) and value.dtype in (np.float32, np.float64) and value.size


def formal_inputs(case):
    """Return the schema's parameter by the name of the value that is handed in for it."""
    node = next(node for node in case.model.graph.node if node.op_type != "Constant")
    version = next(entry.version for entry in case.model.opset_import if entry.domain == node.domain)
    formal = onnx.defs.get_schema(node.op_type, version, node.domain).inputs
    return {name: formal[min(position, len(formal) - 1)] for position, name in enumerate(node.input)}


def slopes(case, wanted):
    """Yield the slope of every float input whose name in the schema is ``wanted``."""
    module = OnnxModule(load_graph(case.model)).eval()
    if way_of(module) == ISLAND:
        return
    feed = feed_of(module.graph, case.data_sets[0][0])
    formal = formal_inputs(case)
    for name in filter(lambda key: is_float(feed[key]), feed):
        if feed[name].size > LARGEST or not wanted(formal[name].name):
            continue
        wide = {key for key, parameter in formal.items() if "tensor(double)" in parameter.types}
        for kind, double in (
            ((torch.float64, wide), (torch.float32, set())) if name in wide else ((torch.float32, set()),)
        ):
            try:
                yield slope(module, feed, name, kind, double, case.name)
                break
            except WrongTypeError:
                continue  # some results are always in single or half precision


def slope(module, feed, name, kind, wide, where):
    """Return the slope, computed in ``kind``; the inputs in ``wide`` are made double.

    Raises:
        WrongTypeError: the results are not of that kind.
    """
    generator = torch.Generator().manual_seed(0)
    fixed = {key: nudged(value, key in wide, generator) if is_float(value) else value for key, value in feed.items()}
    x = torch.where(fixed[name].isfinite(), fixed[name], 1.0).requires_grad_()
    direction = torch.randn(x.shape, generator=generator, dtype=torch.float64)
    projections = {}

    def projected(x):
        torch.manual_seed(0)
        total = torch.zeros((), dtype=torch.float64)
        for key, value in module({**fixed, name: x}).items():
            for number, result in enumerate(value if isinstance(value, list) else [value]):
                if not isinstance(result, torch.Tensor) or not result.is_floating_point():
                    continue
                if result.dtype != kind:
                    raise WrongTypeError
                finite = torch.where(result.isfinite(), result, 0.0)  # what is masked stays -inf
                random = torch.randn(result.shape, generator=generator, dtype=torch.float64)
                total = total + (finite * projections.setdefault((key, number), random)).sum()
        return total

    value = projected(x)
    gradient = torch.autograd.grad(value, x, allow_unused=True)[0] if value.requires_grad else None
    step = PRECISION[kind][0]
    with torch.no_grad():
        forward, back = projected((x + step * direction).to(x.dtype)), projected((x - step * direction).to(x.dtype))
    return Slope(
        f"{where}, input {name!r}, {str(kind).removeprefix('torch.')}",
        0.0 if gradient is None else float((gradient * direction).sum()),
        float(forward - back) / (2 * step),
        float(value.detach()),
    )


def nudged(array, wide, generator):
    """Return the values a little larger, so that none are equal, zero or at the end of an interval.

    What is not finite becomes 1, unless it masks: all of it is -inf.
    """
    values = torch.from_numpy(array.astype(np.float64))
    if (values.isnan() | values.isposinf()).any():
        values = torch.where(values.isfinite(), values, 1.0)
    random = torch.rand(values.shape, generator=generator, dtype=torch.float64)
    moved = torch.where(values == 0, 0.1 + 0.1 * random, values * (1 + 0.01 * random))
    return moved if wide else moved.float()


def slopes_and_errors(cases, wanted):
    found, errors = [], []
    for case in cases:
        try:
            found += slopes(case, wanted)
        except (ToolchainError, RuntimeError) as error:
            errors.append(f"{case.name}: {error}")
    return found, errors


@pytest.mark.parametrize("operator", OFFICIAL, ids=lambda key: ".".join(filter(None, key)))
def test_gradients_are_the_slopes_of_the_results(operator, cases):
    name = operator[1]
    found, errors = slopes_and_errors(cases[operator], lambda parameter: (name, parameter) not in NO_GRADIENT_TO)
    wrong = [item for item in found if not item.agrees]
    right = [item for item in found if item.agrees and item.gradient]
    if name in STRAIGHT_THROUGH:
        assert wrong
    elif name in WITHOUT:
        assert not right
    else:
        assert not wrong
        assert not errors
        assert right


@pytest.mark.parametrize(("name", "parameter"), NO_GRADIENT_TO)
def test_an_input_that_is_listed_without_gradient_has_none(name, parameter, cases):
    found, errors = slopes_and_errors(cases["", name], lambda other: other == parameter)
    assert errors or any(not item.agrees for item in found)
