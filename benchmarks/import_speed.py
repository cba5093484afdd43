"""How fast the imported module runs, against hand-written PyTorch and against onnx2torch, in one run.

python benchmarks/import_speed.py            # needs: pip install onnx2torch

The variants are timed in turns, so that all see the same machine; figures are medians over rounds of the ratio of the
imported module's time to the other's: below 1 is faster. Gradients are those of the sum of the outputs.
"""

import argparse
import io
import runpy
import statistics
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx
import torch
from common import machine, save, shared, table
from torch import Tensor, nn

from toolchain.graph import load_graph
from toolchain.module import OnnxModule

ROUND_SECONDS = 0.25  # of every variant in every round


class LeNet(nn.Module):
    """LeNet-5 as in Caffe, without activations after the convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 20, 5), nn.Conv2d(20, 50, 5)
        self.fc1, self.fc2 = nn.Linear(800, 500), nn.Linear(500, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Run the network."""
        x = nn.functional.max_pool2d(self.conv1(x), 2)
        x = nn.functional.max_pool2d(self.conv2(x), 2)
        scores: Tensor = self.fc2(torch.relu(self.fc1(x.flatten(1))))
        return scores


class Block(nn.Module):
    """Two convolutions and a shortcut, BatchNormalization folded as in the file."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inside, outside, 3, stride, 1)
        self.conv2 = nn.Conv2d(outside, outside, 3, 1, 1)
        self.shortcut = nn.Conv2d(inside, outside, 1, stride) if stride > 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Run the network."""
        return torch.relu(self.conv2(torch.relu(self.conv1(x))) + self.shortcut(x))


class ResNet20(nn.Module):
    """ResNet-20 for 32x32 images."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, 1, 1)
        widths = [(16, 16, 1)] * 3 + [(16, 32, 2)] + [(32, 32, 1)] * 2 + [(32, 64, 2)] + [(64, 64, 1)] * 2
        self.blocks = nn.Sequential(*(Block(*width) for width in widths))
        self.head = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Run the network."""
        scores: Tensor = self.head(self.blocks(torch.relu(self.stem(x))).mean((2, 3)))
        return scores


class EncoderLayer(nn.Module):
    """Self-attention and a feed-forward network, normalised before each."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Run the network."""
        batch, length, width = x.shape
        heads = self.qkv(self.norm1(x)).reshape(batch, length, 3, self.heads, width // self.heads)
        q, k, v = heads.permute(2, 0, 3, 1, 4).unbind(0)
        weights = torch.softmax(q @ k.transpose(-1, -2) / (width // self.heads) ** 0.5, -1)
        x = x + self.out((weights @ v).transpose(1, 2).reshape(batch, length, width))
        result: Tensor = x + self.down(nn.functional.gelu(self.up(self.norm2(x))))
        return result


def encoder() -> nn.Module:
    """Return a transformer encoder of 6 layers, 256 wide."""
    return nn.Sequential(*(EncoderLayer(256, 4) for _ in range(6)))


def exported(module: nn.Module, x: Tensor) -> onnx.ModelProto:
    """Return the module as PyTorch's exporter writes it, batch and length left open."""
    buffer = io.BytesIO()
    names = {0: "batch", 1: "length"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the TorchScript exporter needs no further package, and says it is old
        torch.onnx.export(
            module,
            (x,),
            buffer,  # type: ignore[arg-type]  # which it takes, but does not say
            dynamo=False,
            opset_version=20,
            input_names=["x"],
            dynamic_axes={"x": names},
        )
    return onnx.load_from_string(buffer.getvalue())


def forward(module: nn.Module, feed: object) -> Callable[[], object]:
    """Return a call that runs the module without gradients."""

    def call() -> object:
        with torch.no_grad():
            return module(feed)

    return call


def forward_and_backward(module: nn.Module, feed: object) -> Callable[[], object]:
    """Return a call that runs the module and computes the gradients of its weights."""

    def call() -> object:
        module.zero_grad()
        result = module(feed)
        outputs = result.values() if isinstance(result, Mapping) else result if isinstance(result, tuple) else [result]
        torch.stack([value.sum() for value in outputs if value.requires_grad]).sum().backward()  # type: ignore[no-untyped-call]
        return result

    return call


def ratios(ours: Callable[[], object], other: Callable[[], object], rounds: int) -> list[float]:
    """Return our time over the other's, per round; both are called in turns."""
    counts = {}
    for call in (ours, other):
        call()
        started = time.perf_counter()
        call()
        counts[call] = max(1, round(ROUND_SECONDS / (time.perf_counter() - started)))
    found = []
    for number in range(rounds):
        took = {}
        for call in (ours, other) if number % 2 else (other, ours):
            started = time.perf_counter()
            for _ in range(counts[call]):
                call()
            took[call] = (time.perf_counter() - started) / counts[call]
        found.append(took[ours] / took[other])
    return found


def against_hand_written(rounds: int) -> list[dict[str, object]]:
    """Compare with PyTorch modules written by hand."""
    cases = [
        ("LeNet-5", onnx.load(shared("models", "lenet5_mnist.onnx")), LeNet(), torch.randn(64, 1, 28, 28)),
        ("LeNet-5, batch 1", onnx.load(shared("models", "lenet5_mnist.onnx")), LeNet(), torch.randn(1, 1, 28, 28)),
        ("ResNet-20", onnx.load(shared("models", "resnet20_cifar10.onnx")), ResNet20(), torch.randn(16, 3, 32, 32)),
    ]
    transformer = encoder()
    cases.append(
        ("encoder, 6 layers", exported(transformer, torch.randn(2, 16, 256)), transformer, torch.randn(4, 64, 256))
    )
    rows = []
    for name, proto, module, x in cases:
        imported = OnnxModule(load_graph(proto)).eval()
        feed = {imported.graph.inputs[0].name: x}
        for what, make in (("forward", forward), ("forward and backward", forward_and_backward)):
            found = ratios(make(imported, feed), make(module.eval(), x), rounds)
            rows.append(row(name, "hand-written PyTorch", what, found))
    return rows


def against_onnx2torch(rounds: int) -> list[dict[str, object]]:
    """Compare with onnx2torch on every real model that it can convert and run."""
    # onnx2torch imports torchvision, whose wheel for CUDA does not load its kernels beside torch for CPUs.
    for name in ("nms", "qnms"):
        torch.library.define(f"torchvision::{name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    try:
        from onnx2torch import convert  # noqa: PLC0415 - the other comparisons do without
    except ImportError:
        print("skipped: onnx2torch is not installed")
        return []

    folder = shared("models")
    make = runpy.run_path(str(folder / "zoo" / "inputs.py"))["make"]
    rows = []
    for path in sorted(folder.glob("*.onnx")) + sorted((folder / "zoo").glob("*.onnx")):
        graph = load_graph(path)
        feed = make(path.stem, graph.proto, 0) if path.parent.name == "zoo" else cifar_or_mnist(graph.inputs[0].shape)
        feed = {value.name: feed[value.name] for value in graph.inputs}
        tensors = [torch.from_numpy(np.array(array)) for array in feed.values()]
        try:
            other = convert(str(path)).eval()
            with torch.no_grad():
                other(*tensors)
        except Exception as error:  # noqa: BLE001 - whatever it raises, it cannot run the model
            print(f"{path.stem}: onnx2torch cannot: {type(error).__name__}", flush=True)
            continue
        imported = OnnxModule(graph).eval()
        named = dict(zip(feed, tensors, strict=True))
        found = ratios(forward(imported, named), forward_many(other, tensors), rounds)
        rows.append(row(path.stem, "onnx2torch", "forward", found))
    return rows


def forward_many(module: nn.Module, tensors: list[Tensor]) -> Callable[[], object]:
    """Return a call that runs a module of several inputs without gradients."""

    def call() -> object:
        with torch.no_grad():
            return module(*tensors)

    return call


def cifar_or_mnist(shape: tuple[int | str | None, ...] | None) -> dict[str, np.ndarray]:
    """Return one random image in the shape of a model's input."""
    sizes = [size if isinstance(size, int) else 1 for size in shape or ()]
    return {"image": np.random.default_rng(0).standard_normal(sizes).astype(np.float32)}


def row(model: str, other: str, what: str, found: list[float]) -> dict[str, object]:
    """Return and print one comparison."""
    result = {
        "model": model,
        "against": other,
        "what": what,
        "ratio": round(statistics.median(found), 3),
        "low": round(float(np.quantile(found, 0.25)), 3),
        "high": round(float(np.quantile(found, 0.75)), 3),
    }
    print(f"{model}, {what}: {result['ratio']} of {other} ({result['low']} to {result['high']})", flush=True)
    return result


def main() -> None:
    """Run all comparisons and write them down."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=11)
    rounds = parser.parse_args().rounds
    torch.manual_seed(0)
    rows = against_hand_written(rounds) + against_onnx2torch(rounds)
    path = save("import_speed", {"rounds": rounds, "rows": rows, **machine()})
    lines = [
        [str(r["model"]), str(r["against"]), str(r["what"]), f"{r['ratio']} ({r['low']} to {r['high']})"] for r in rows
    ]
    text = table(["model", "against", "what", "time ratio, median (quartiles)"], lines)
    Path(path.with_suffix(".md")).write_text(text)
    print(text)


if __name__ == "__main__":
    main()
