"""An AlexNet-sized graph without data: memory, time, bytes and latency at 61 million weights.

    python benchmarks/alexnet.py            # builds the graph, compresses it 36x / 2 bit, writes results/alexnet.json
                                        # and the README's table

The weights are random (He), so accuracy means nothing here; the layers are those of Krizhevsky et al. 2012 without the
split over two devices, 227x227 inputs.
"""

import math
from pathlib import Path

import numpy as np
import onnx
from common import RESULTS, ROOT, compress, fill_readme, machine, save, table, without_curves
from onnx import TensorProto, helper, numpy_helper

# Output channels, kernel, stride, padding, and whether a 3x3 pooling of stride 2 follows.
CONVOLUTIONS = ((96, 11, 4, 0, True), (256, 5, 1, 2, True), (384, 3, 1, 1, False), (384, 3, 1, 1, False),
                (256, 3, 1, 1, True))  # fmt: skip
FULLY_CONNECTED = (4096, 4096, 1000)
COMMAND = ["--prune", "36x", "--quant", "2bit", "--epochs", "1"]


def build(path: Path) -> None:
    """Write the graph with He weights."""
    rng = np.random.default_rng(0)
    nodes, weights = [], []

    def he(name: str, *shape: int) -> str:
        values = rng.standard_normal(shape, np.float32) * math.sqrt(2 / math.prod(shape[1:]))
        weights.append(numpy_helper.from_array(values.astype(np.float32), name))
        return name

    def zeros(name: str, size: int) -> str:
        weights.append(numpy_helper.from_array(np.zeros(size, np.float32), name))
        return name

    value, channels = "image", 3
    for i, (count, kernel, stride, pad, pooled) in enumerate(CONVOLUTIONS, 1):
        inputs = [value, he(f"conv{i}.weight", count, channels, kernel, kernel), zeros(f"conv{i}.bias", count)]
        nodes.append(helper.make_node("Conv", inputs, [f"c{i}"], strides=[stride] * 2, pads=[pad] * 4))
        nodes.append(helper.make_node("Relu", [f"c{i}"], [f"r{i}"]))
        value, channels = f"r{i}", count
        if pooled:
            nodes.append(helper.make_node("MaxPool", [value], [f"p{i}"], kernel_shape=[3, 3], strides=[2, 2]))
            value = f"p{i}"
    nodes.append(helper.make_node("Flatten", [value], ["flat"]))
    value, size = "flat", 256 * 6 * 6
    for i, count in enumerate(FULLY_CONNECTED, 6):
        last = count == FULLY_CONNECTED[-1]
        inputs = [value, he(f"fc{i}.weight", count, size), zeros(f"fc{i}.bias", count)]
        nodes.append(helper.make_node("Gemm", inputs, ["logits" if last else f"g{i}"], transB=1))
        if not last:
            nodes.append(helper.make_node("Relu", [f"g{i}"], [f"r{i}"]))
        value, size = f"r{i}", count
    graph = helper.make_graph(
        nodes,
        "alexnet",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, 227, 227])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 1000])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)


def main() -> None:
    """Build, compress, save."""
    folder = ROOT / "build" / "benchmarks"
    folder.mkdir(parents=True, exist_ok=True)
    model = folder / "alexnet.onnx"
    if not model.exists():
        build(model)
    done = compress([str(model), *COMMAND], folder / "alexnet-36x-2bit.onnx")
    report = done.report
    save(
        "alexnet",
        {
            "command": " ".join(COMMAND),
            "seconds": done.seconds,
            "peak_bytes": done.peak_bytes,
            **machine(),
            "latency": without_curves(report["latency"]),
            **{key: report[key] for key in ("size", "weights", "parity", "quality", "environment", "timings")},
        },
    )
    size, entry = report["size"], report["latency"][0]
    low, high = entry["speedup_ci95"]
    text = table(
        ["command", "minutes", "peak memory", "file bytes", "smaller", "latency p50", "speedup (95 %)"],
        [
            ["original", "", "", f"{size['original_bytes']:,}", "1x", f"{entry['original']['p50_ms']:.2f} ms", "1x"],
            [
                f"`{' '.join(COMMAND)}`",
                f"{done.seconds / 60:.1f}",
                f"{done.peak_bytes / 2**30:.2f} GiB",
                f"{size['compressed_bytes']:,}",
                f"{size['ratio']:.1f}x",
                f"{entry['compressed']['p50_ms']:.2f} ms",
                f"{entry['speedup']:.2f}x ({low:.2f} to {high:.2f})",
            ],
        ],
    )
    (RESULTS / "alexnet.md").write_text(text)
    fill_readme("alexnet", text)
    print(text)


if __name__ == "__main__":
    main()
