"""How long large models take to be imported, and how much memory.

python benchmarks/import_size.py             # needs 6 GB of memory and of disk

Each model is made on the spot and loaded in a process of its own. Times are the best of three runs of ``load``, the
toolchain's own imports included; memory is the most that the process ever had, above what it had once torch and onnx
were imported. Reads ``/proc``, so it runs on Linux only.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from common import machine, save, table
from onnx import TensorProto, helper, numpy_helper

RUNS = 3
CONVOLUTIONS = [(3, 64, 11), (64, 192, 5), (192, 384, 3), (384, 256, 3), (256, 256, 3)]
LINEAR = [9216, 4096, 4096, 1000]
LARGE = 8192  # outputs of each of the ten layers of the model beyond 2 GiB


def main() -> None:
    """Measure all models, or, in a process of its own, one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--child", type=Path, metavar="MODEL")
    parser.add_argument("--value", help="a value inside the model that is computed as well")
    parser.add_argument("--save", type=Path, help="where the model is saved")
    arguments = parser.parse_args()
    if arguments.child is not None:
        print(json.dumps(child(arguments.child, arguments.value, arguments.save)))
        return
    with tempfile.TemporaryDirectory() as folder:
        results = [measure(name, make, Path(folder)) for name, make in MODELS.items()]
    save("import_size", {"models": results, **machine()})
    header = [
        "model",
        "weights",
        "file",
        "load",
        "peak memory",
        "of the file",
        "part of a forward",
        "save",
        "same bytes",
    ]
    print(table(header, [row(result) for result in results]))


def child(path: Path, value: str | None, target: Path | None) -> dict[str, Any]:
    """Load a model, run it as far as ``value`` and save it, each with the peak memory so far."""
    import torch  # noqa: F401, PLC0415 - not measured

    before = peak()
    started = time.perf_counter()
    from toolchain import load  # noqa: PLC0415 - measured

    module = load(path)
    result = {"load_s": time.perf_counter() - started, "load_peak_bytes": peak() - before}
    result["weights"] = sum(parameter.numel() for parameter in module.parameters())
    if value is not None:
        from toolchain import save as save_model  # noqa: PLC0415 - the saving of results is another

        started = time.perf_counter()
        shape = [size if isinstance(size, int) else 1 for size in module.graph.inputs[0].shape or ()]
        module.run({module.graph.inputs[0].name: np.ones(shape, np.float32)}, [value])
        result |= {"forward_s": time.perf_counter() - started, "forward_peak_bytes": peak() - before}
        started = time.perf_counter()
        save_model(module, target or path)
        result |= {"save_s": time.perf_counter() - started, "save_peak_bytes": peak() - before}
    return result


def peak() -> int:
    """Return the most memory that this process has had, in bytes."""
    status = Path("/proc/self/status").read_text()  # getrusage counts what the parent had when it started this
    return 1024 * int(re.findall(r"VmHWM:\s*(\d+) kB", status)[0])


def measure(name: str, make: Callable[[Path], str], folder: Path) -> dict[str, Any]:
    """Make a model, measure it and take it away again."""
    source, target = folder / "source", folder / "target"
    source.mkdir()
    target.mkdir()
    value = make(source / "model.onnx")
    files = sorted(file.name for file in source.iterdir())
    size = sum((source / file).stat().st_size for file in files)
    call = [sys.executable, __file__, "--child", str(source / "model.onnx")]
    runs = [run(call) for _ in range(RUNS - 1)]
    runs.append(run([*call, "--value", value, "--save", str(target / "model.onnx")]))
    best = {key: min(item[key] for item in runs if key in item) for key in runs[-1]}
    best["load_peak_bytes"] = max(item["load_peak_bytes"] for item in runs)
    same = all(equal(source / file, target / file) for file in files)
    for file in (*source.iterdir(), *target.iterdir()):
        file.unlink()
    source.rmdir()
    target.rmdir()
    ratio = best["load_peak_bytes"] / size
    print(f"{name}: {best['load_s']:.2f} s, {ratio:.2f} times the file", flush=True)
    return {"model": name, "bytes": size, "peak_ratio": ratio, "same_bytes": same, **best}


def run(call: Sequence[str]) -> dict[str, Any]:
    """Return what a child measured."""
    found: dict[str, Any] = json.loads(subprocess.run(call, check=True, capture_output=True, text=True).stdout)
    return found


def equal(one: Path, other: Path) -> bool:
    """Return whether two files have the same bytes; a part of them is in memory at a time."""
    with one.open("rb") as first, other.open("rb") as second:
        while (chunk := first.read(1 << 24)) == second.read(1 << 24):
            if not chunk:
                return True
    return False


def row(result: dict[str, Any]) -> list[str]:
    """Return a line of the table."""
    return [
        result["model"],
        f"{result['weights'] / 1e6:.1f} M",
        f"{result['bytes'] / 1e6:,.0f} MB",
        f"{result['load_s']:.2f} s",
        f"{result['load_peak_bytes'] / 1e6:,.0f} MB",
        f"{result['peak_ratio']:.2f}",
        f"{result['forward_s']:.2f} s",
        f"{result['save_s']:.2f} s",
        "yes" if result["same_bytes"] else "NO",
    ]


def alexnet() -> onnx.ModelProto:
    """Return a model of AlexNet's shape, 61 million weights, two thirds of them in one layer."""
    rng = np.random.default_rng(0)
    nodes, initializers, value = [], [], "x"

    def weights(index: int, *shape: int) -> list[str]:
        for name, size in (("w", shape), ("b", shape[:1])):
            initializers.append(numpy_helper.from_array(rng.standard_normal(size, np.float32), f"{name}{index}"))
        return [f"w{index}", f"b{index}"]

    for index, (inside, outside, kernel) in enumerate(CONVOLUTIONS):
        names = weights(index, outside, inside, kernel, kernel)
        step: dict[str, Any] = {"strides": [4, 4], "pads": [2] * 4} if index == 0 else {"pads": [kernel // 2] * 4}
        nodes.append(helper.make_node("Conv", [value, *names], [f"c{index}"], **step))
        nodes.append(helper.make_node("Relu", [f"c{index}"], [f"r{index}"]))
        value = f"r{index}"
        if index in (0, 1, 4):
            nodes.append(helper.make_node("MaxPool", [value], [f"p{index}"], kernel_shape=[3, 3], strides=[2, 2]))
            value = f"p{index}"
    nodes.append(helper.make_node("Flatten", [value], ["f"]))
    value = "f"
    for index, (inside, outside) in enumerate(pairwise(LINEAR), len(CONVOLUTIONS)):
        names = weights(index, outside, inside)
        nodes.append(helper.make_node("Gemm", [value, *names], [f"g{index}"], transB=1))
        value = f"g{index}"
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 224, 224])]
    outputs = [helper.make_tensor_value_info(value, TensorProto.FLOAT, ["n", LINEAR[-1]])]
    graph = helper.make_graph(nodes, "alexnet", inputs, outputs, initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def one_file(path: Path) -> str:
    """Write AlexNet's shape as one file; return the value to compute."""
    onnx.save(alexnet(), path)
    return "g7"


def external(path: Path) -> str:
    """Write AlexNet's shape with external data; return the value to compute."""
    onnx.save(alexnet(), path, save_as_external_data=True, location="weights.bin")
    return "g7"


def beyond(path: Path) -> str:
    """Write ten layers of 8192 x 8192 zeros, 2.7 GB in external data without content; return the value to compute."""
    names = [f"w{index}" for index in range(10)]
    values = ["x", *(f"h{index}" for index in range(10))]
    size = 4 * LARGE * LARGE
    tensors = []
    for index, name in enumerate(names):
        tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[LARGE, LARGE])
        tensor.data_location = TensorProto.EXTERNAL
        for key, entry in {"location": "weights.bin", "offset": str(index * size), "length": str(size)}.items():
            tensor.external_data.add(key=key, value=entry)
        tensors.append(tensor)
    nodes = [helper.make_node("MatMul", [values[k], names[k]], [values[k + 1]]) for k in range(10)]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", LARGE])]
    outputs = [helper.make_tensor_value_info("h9", TensorProto.FLOAT, ["n", LARGE])]
    graph = helper.make_graph(nodes, "large", inputs, outputs, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    with path.with_name("weights.bin").open("wb") as file:
        file.truncate(10 * size)
    return "h1"


MODELS: dict[str, Callable[[Path], str]] = {
    "AlexNet's shape": one_file,
    "AlexNet's shape, external data": external,
    "beyond 2 GiB, external data": beyond,
}


if __name__ == "__main__":
    main()
