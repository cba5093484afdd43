"""Graphs of the shapes of known networks, with He weights: for figures of time and bytes, and to be trained."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

# AlexNet: output channels, kernel, stride, padding, and whether a 3x3 pooling of stride 2 follows.
CONVOLUTIONS = ((96, 11, 4, 0, True), (256, 5, 1, 2, True), (384, 3, 1, 1, False), (384, 3, 1, 1, False),
                (256, 3, 1, 1, True))  # fmt: skip
FULLY_CONNECTED = (4096, 4096, 1000)

# ResNet-50: channels inside a block, blocks, and stride of every stage; blocks give four times as many channels.
STAGES = ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2))
EXPANSION = 4
# VGG-16: channels of every convolution, by the poolings between them.
VGG = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
RESIDUAL = 0.2  # scale of the last convolution of a block, so that sums over blocks stay of one size


@dataclass
class Sketch:
    """A graph in the making; every layer takes the name of a value and returns that of its result."""

    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: list[onnx.TensorProto] = field(default_factory=list)

    def _add(self, name: str, values: np.ndarray) -> str:
        self.weights.append(numpy_helper.from_array(values.astype(np.float32), name))
        return name

    def _parameters(self, name: str, shape: tuple[int, ...], scale: float, bias: bool = True) -> list[str]:
        """Add He weights and, where asked for, a bias of zeros."""
        values = self.rng.standard_normal(shape, np.float32) * np.float32(scale * math.sqrt(2 / math.prod(shape[1:])))
        weight = self._add(f"{name}.weight", values)
        return [weight, self._add(f"{name}.bias", np.zeros(shape[0]))] if bias else [weight]

    def node(self, op: str, inputs: list[str], output: str, **attributes: Any) -> str:  # noqa: ANN401 - an attribute is anything
        """Add a node with one output."""
        self.nodes.append(helper.make_node(op, inputs, [output], **attributes))
        return output

    def conv(
        self, name: str, value: str, shape: tuple[int, int, int], stride: int, pad: int, scale: float = 1.0
    ) -> str:
        """Add a convolution of ``shape`` outputs, inputs, kernel."""
        inputs = [value, *self._parameters(name, (*shape, shape[-1]), scale)]
        return self.node("Conv", inputs, f"{name}.out", strides=[stride] * 2, pads=[pad] * 4)

    def normalized_conv(self, name: str, value: str, shape: tuple[int, int, int]) -> str:
        """Add a convolution of ``shape`` that keeps the size of the image, without bias, and a BatchNormalization."""
        inputs = [value, *self._parameters(name, (*shape, shape[-1]), 1.0, bias=False)]
        value = self.node("Conv", inputs, f"{name}.out", pads=[shape[-1] // 2] * 4)
        start = {"scale": 1.0, "shift": 0.0, "mean": 0.0, "variance": 1.0}
        moments = [self._add(f"{name}.{key}", np.full(shape[0], fill)) for key, fill in start.items()]
        return self.node("BatchNormalization", [value, *moments], f"{name}.normalized")

    def gemm(self, name: str, value: str, shape: tuple[int, int], output: str) -> str:
        """Add a fully connected layer of ``shape`` outputs, inputs."""
        return self.node("Gemm", [value, *self._parameters(name, shape, 1.0)], output, transB=1)

    def relu(self, value: str) -> str:
        """Add a Relu."""
        return self.node("Relu", [value], f"{value}.relu")

    def save(self, name: str, side: int, path: Path, classes: int = 1000) -> None:
        """Write the model from ``image`` of so many pixels to ``logits``."""
        graph = helper.make_graph(
            self.nodes,
            name,
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, side, side])],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", classes])],
            self.weights,
        )
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def build_alexnet(path: Path) -> None:
    """Write the layers of Krizhevsky et al. 2012 without the split over two devices: 62 million weights."""
    sketch, value, channels = Sketch(), "image", 3
    for i, (count, kernel, stride, pad, pooled) in enumerate(CONVOLUTIONS, 1):
        value = sketch.relu(sketch.conv(f"conv{i}", value, (count, channels, kernel), stride, pad))
        channels = count
        if pooled:
            value = sketch.node("MaxPool", [value], f"pool{i}", kernel_shape=[3, 3], strides=[2, 2])
    value, size = sketch.node("Flatten", [value], "flat"), 256 * 6 * 6
    for i, count in enumerate(FULLY_CONNECTED, 6):
        last = count == FULLY_CONNECTED[-1]
        value = sketch.gemm(f"fc{i}", value, (count, size), "logits" if last else f"fc{i}.out")
        value, size = value if last else sketch.relu(value), count
    sketch.save("alexnet", 227, path)


def build_resnet50(path: Path) -> None:
    """Write the layers of He et al. 2015, the stride in the 3x3, normalisation folded as exporters do: 25 million."""
    sketch = Sketch()
    value = sketch.relu(sketch.conv("stem", "image", (64, 3, 7), 2, 3))
    value = sketch.node("MaxPool", [value], "pool", kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    for name, inputs, width, stride in blocks():
        inside = sketch.relu(sketch.conv(f"{name}.conv1", value, (width, inputs, 1), 1, 0))
        inside = sketch.relu(sketch.conv(f"{name}.conv2", inside, (width, width, 3), stride, 1))
        inside = sketch.conv(f"{name}.conv3", inside, (EXPANSION * width, width, 1), 1, 0, RESIDUAL)
        if inputs != EXPANSION * width:
            value = sketch.conv(f"{name}.shortcut", value, (EXPANSION * width, inputs, 1), stride, 0)
        value = sketch.relu(sketch.node("Add", [inside, value], f"{name}.sum"))
    value = sketch.node("Flatten", [sketch.node("GlobalAveragePool", [value], "average")], "flat")
    sketch.gemm("fc", value, (1000, EXPANSION * STAGES[-1][0]), "logits")
    sketch.save("resnet50", 224, path)


def build_vgg16(path: Path) -> None:
    """Write the convolutions of Simonyan and Zisserman 2015 (D) with normalisation, for 10 classes of 32x32 images.

    A single fully connected layer follows, as is usual at this size: 14.7 million weights.
    """
    sketch, value, channels = Sketch(), "image", 3
    for stage, counts in enumerate(VGG, 1):
        for number, count in enumerate(counts, 1):
            value = sketch.relu(sketch.normalized_conv(f"conv{stage}_{number}", value, (count, channels, 3)))
            channels = count
        value = sketch.node("MaxPool", [value], f"pool{stage}", kernel_shape=[2, 2], strides=[2, 2])
    value = sketch.node("Flatten", [value], "flat")
    sketch.gemm("fc", value, (10, channels), "logits")
    sketch.save("vgg16", 32, path, classes=10)


def blocks() -> Iterator[tuple[str, int, int, int]]:
    """Return name, input channels, inner channels and stride of every block."""
    inputs = STAGES[0][0]
    for stage, (width, count, stride) in enumerate(STAGES, 1):
        for number in range(count):
            yield f"stage{stage}.{number}", inputs, width, stride if number == 0 else 1
            inputs = EXPANSION * width
