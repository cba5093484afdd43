"""Small compressed modules, written as ONNX text."""

from collections.abc import Callable

import numpy as np
import onnx.parser
import pytest
import torch
from onnx import numpy_helper

from calibration.observers import make_grid
from toolchain.export import activation_formats, activation_values
from toolchain.formats import Grid, TensorFormat
from toolchain.graph import find_weights, load_graph
from toolchain.module import OnnxModule

PRUNED = (-2, -1, 1, 2)

Build = Callable[..., OnnxModule]


@pytest.fixture
def build() -> Build:
    """Return a function that makes a module of ONNX text, with random values for the named initializers."""

    def make(text: str, shapes: dict[str, tuple[int, ...]], seed: int = 0) -> OnnxModule:
        proto = onnx.parser.parse_model(text)
        rng = np.random.default_rng(seed)
        for name, shape in shapes.items():
            proto.graph.initializer.append(numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32), name))
        return OnnxModule(load_graph(proto)).eval()

    return make


@pytest.fixture
def compress() -> Callable[..., None]:
    """Return a function that puts every weight of a module into a format by magnitude."""

    def apply(module: OnnxModule, kept: float, levels: tuple[int, ...] | None) -> None:
        with torch.no_grad():
            for weight in find_weights(module.graph):
                if weight.reason:
                    continue
                value = module.tensor(weight.name)
                order = value.abs().flatten().argsort(descending=True)
                mask = torch.zeros(value.numel(), dtype=torch.bool)
                mask[order[: max(1, round(kept * value.numel()))]] = True
                grid = None
                if levels is not None:
                    others = [axis for axis in range(value.ndim) if axis != weight.axis]
                    scale = (value.abs().amax(others) / levels[-1]).clamp(min=1e-4).half().float()
                    grid = Grid(levels, scale, axis=weight.axis)
                found = TensorFormat(mask.reshape(value.shape) if kept < 1 else None, grid)
                value.copy_(found.project(value))
                module.formats[weight.name] = found

    return apply


@pytest.fixture
def calibrate() -> Callable[..., None]:
    """Return a function that gives the activations of int8 nodes the range they have on a batch."""

    def apply(module: OnnxModule, kernels: dict[str, str], batch: dict[str, np.ndarray]) -> None:
        with torch.no_grad():
            values = module.run(batch, list(activation_values(module.graph, kernels)))
        grids = {name: make_grid(float(value.min()), float(value.max())) for name, value in values.items()}
        module.formats.update(activation_formats(module, kernels, grids))

    return apply
