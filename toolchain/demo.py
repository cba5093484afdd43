"""``compress demo``: a small digit CNN, trained here on real handwritten digits and compressed 36x / 2 bit."""

import math
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import torch
import torch.nn.functional as F  # noqa: N812 - the name the whole field uses

from calibration.data import Preprocessing
from toolchain.errors import ExportError, ToolchainError
from toolchain.graph import load_graph, save_proto
from toolchain.module import OnnxModule
from toolchain.pipeline import CompressResult, compress
from toolchain.progress import Progress

PRUNE, QUANT = "36x", "2bit"
COMPRESSION_EPOCHS = 200  # about a minute and a half on two cores
TRAINING_EPOCHS = 20
BATCH_SIZE = 64
LEARNING_RATE = 5e-3
TEST_SHARE = 5  # one digit in five is kept for the test
WHITE = 16  # the digits have 17 grey levels, 0 to 16

NETWORK = """
<ir_version: 8, opset_import: ["": 17]>
digits (float[N, 1, 8, 8] image) => (float[N, 10] logits)
<
    float[16, 1, 3, 3] conv1_weight, float[16] bn1_scale, float[16] bn1_bias, float[16] bn1_mean, float[16] bn1_var,
    float[32, 16, 3, 3] conv2_weight, float[32] bn2_scale, float[32] bn2_bias, float[32] bn2_mean, float[32] bn2_var,
    float[64, 32, 3, 3] conv3_weight, float[64] bn3_scale, float[64] bn3_bias, float[64] bn3_mean, float[64] bn3_var,
    float[64, 256] fc1_weight, float[64] fc1_bias, float[10, 64] fc2_weight, float[10] fc2_bias
>
{
    c1 = Conv<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(image, conv1_weight)
    n1 = BatchNormalization(c1, bn1_scale, bn1_bias, bn1_mean, bn1_var)
    a1 = Relu(n1)
    c2 = Conv<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(a1, conv2_weight)
    n2 = BatchNormalization(c2, bn2_scale, bn2_bias, bn2_mean, bn2_var)
    a2 = Relu(n2)
    p2 = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(a2)
    c3 = Conv<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(p2, conv3_weight)
    n3 = BatchNormalization(c3, bn3_scale, bn3_bias, bn3_mean, bn3_var)
    a3 = Relu(n3)
    p3 = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(a3)
    flat = Flatten(p3)
    f1 = Gemm<transB = 1>(flat, fc1_weight, fc1_bias)
    a4 = Relu(f1)
    logits = Gemm<transB = 1>(a4, fc2_weight, fc2_bias)
}
"""


@dataclass(frozen=True)
class Digits:
    """Handwritten digits: images uint8 ``[N, 1, 8, 8]`` with values 0..16, labels int64 ``[N]`` of 0..9."""

    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray


def run_demo(folder: Path, progress: Progress) -> CompressResult:
    """Train, save ``digits.onnx`` and ``digits.npz`` in ``folder``, compress, and write the report there.

    Raises:
        ToolchainError: scikit-learn is not installed, or ``folder`` cannot be written.
    """
    digits = load_digits()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "digits.npz").open("wb") as file:
            np.savez(file, x_train=digits.x_train, y_train=digits.y_train, x_test=digits.x_test, y_test=digits.y_test)
    except OSError as error:
        raise ExportError(f"cannot write to {folder}: {error.strerror}", hint="name another folder with -o") from error
    progress.phase("train the model to compress", 0.0)
    save_proto(train_digits(digits, TRAINING_EPOCHS, progress), folder / "digits.onnx")
    return compress(
        folder / "digits.onnx",
        prune=PRUNE,
        quant=QUANT,
        data=os.fspath(folder / "digits.npz"),
        epochs=COMPRESSION_EPOCHS,
        report=folder / "report",
        preprocessing=Preprocessing(scale=1 / WHITE),
        progress=progress,
    )


def load_digits() -> Digits:
    """Return scikit-learn's 1,797 scanned digits, every fifth of a fixed shuffle for the test.

    Raises:
        ToolchainError: scikit-learn is not installed.
    """
    try:
        from sklearn import datasets  # noqa: PLC0415 - an extra that only the demo needs
    except ImportError as error:
        raise ToolchainError(
            "the demo needs scikit-learn, for its handwritten digits", hint="pip install 'onnx-compress[demo]'"
        ) from error
    bunch = datasets.load_digits()
    order = np.random.default_rng(0).permutation(len(bunch.target))
    images = bunch.images.astype(np.uint8)[order, None]
    labels = bunch.target.astype(np.int64)[order]
    test = np.arange(len(order)) % TEST_SHARE == 0
    return Digits(images[~test], labels[~test], images[test], labels[test])


def train_digits(digits: Digits, epochs: int, progress: Progress) -> onnx.ModelProto:
    """Train the network on the digits with Adam and a cosine learning rate; return it as an ONNX model."""
    generator = torch.Generator().manual_seed(0)
    proto = initial_network(generator)
    module = OnnxModule(load_graph(proto)).train()
    images = torch.from_numpy(digits.x_train).float() / WHITE
    labels = torch.from_numpy(digits.y_train)
    per_epoch = len(labels) // BATCH_SIZE
    optimizer = torch.optim.Adam(module.parameters(), lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * per_epoch)
    for epoch in range(epochs):
        order = torch.randperm(len(labels), generator=generator)
        for step in range(per_epoch):
            index = order[step * BATCH_SIZE : (step + 1) * BATCH_SIZE]
            loss = F.cross_entropy(module({"image": images[index]})["logits"], labels[index])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
        progress.update((epoch + 1) / epochs, {"loss": float(loss.detach())})
    for tensor in proto.graph.initializer:
        tensor.CopyFrom(onnx.numpy_helper.from_array(module.tensor(tensor.name).detach().numpy(), tensor.name))
    return proto


def initial_network(generator: torch.Generator) -> onnx.ModelProto:
    """Return the untrained network: He weights, and BatchNormalization as the identity."""
    proto = onnx.parser.parse_model(NETWORK)
    for info in proto.graph.value_info:
        shape = [dim.dim_value for dim in info.type.tensor_type.shape.dim]
        if info.name.endswith("weight"):
            values = torch.randn(shape, generator=generator) * math.sqrt(2 / math.prod(shape[1:]))
        else:
            values = torch.full(shape, 1.0 if info.name.endswith(("scale", "var")) else 0.0)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(values.numpy(), info.name))
    del proto.graph.value_info[:]
    return proto
