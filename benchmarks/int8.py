"""int8 without training, side by side with what a user would otherwise pick, and on models of many kinds.

    python benchmarks/int8.py run lenet5        # or resnet20, resnet32, squeezenet: ours and the peers, one process
    python benchmarks/int8.py zoo               # ten models of ten kinds on their own inputs
    python benchmarks/int8.py zoo yunet_n_dynamic
    python benchmarks/int8.py table             # results/int8.md, results/int8_zoo.md and the README's tables

Peers (``peers.py``): ``onnxruntime.quantization`` static and dynamic, and NNCF's quantization of ONNX models (pip
install nncf; left out with the reason where it is absent). All find ranges on 512 images of the same training set;
ours rounds weights on 1,024 and holds others out to choose by (SqueezeNet: 200 in all). Accuracy is on the 10,000 test
images of MNIST and of the JPEG-compressed CIFAR-10; of SqueezeNet it is the agreement with the original's first class
on the 800 images of the ImageNet sample that do not calibrate. Latency is
one image on one thread, all files in turns in one process.
"""

import argparse
import importlib.util
import io
import json
import math
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import peers
from cifar10 import PREPROCESSING, images
from common import RESULTS, ROOT, compress, fill_readme, machine, save, shared, table, without_details
from lenet5 import data_options, digits
from PIL import Image

from calibration.data import Batch, Dataset, Preprocessing, load_data
from toolchain.export.sessions import CPU, open_session, time_interleaved
from toolchain.graph import load_graph, save_proto, widen
from toolchain.measure import measure_latency

FILES = ROOT / "build" / "benchmarks" / "int8"
SECONDS = 20.0
CALIBRATED = 512
OURS = "compress --quant 8bit --epochs 0"

CAFFE_MEAN = (103.939, 116.779, 123.68)  # blue, green, red: what SqueezeNet was trained on
ZOO = {
    "yunet_n_dynamic": "face detector",
    "fastestdet": "object detector",
    "carvana_unet": "segmentation",
    "ppocr_det_v2": "text detection",
    "ppocr_rec_en_number": "text recognition (LSTM)",
    "candy_style": "style transfer",
    "super_resolution_espcn": "super-resolution",
    "silero_vad_16k": "voice activity (STFT, LSTM)",
    "cct_2_infer": "vision transformer",
    "pfld": "face landmarks",
}
ZOO_SAMPLES = 64
FAINTEST = 0.01  # root mean square of an output that says something; to random inputs detectors answer 1e-8

INTRODUCTIONS = {
    "int8": (
        "int8 without training, beside ONNX Runtime's own quantization and NNCF's, all calibrated on images of\n"
        "the same training set (`benchmarks/int8.py`; one image on one thread, all files in turns in one process):"
    ),
    "int8_zoo": (
        "Models of other kinds in int8, on random inputs of their own shapes; the error is that of the output that\n"
        "changes most, as a part of its root mean square or of 0.01 (`benchmarks/int8.py zoo`):"
    ),
}


class Case:
    """A model with the data that calibrates it and the data that judges it.

    Attributes:
        model: its file.
        options: of the command, which say the same as ``train`` and ``test``.
        train: what calibrates.
        test: what judges.
        samples: how many of ``train`` calibrate.
    """

    def __init__(self, name: str) -> None:
        prepare = {"lenet5": self._mnist, "squeezenet": self._imagenet}.get(name, self._cifar)
        self.samples = CALIBRATED
        self.model, self.options, self.train, self.test = prepare(name)

    def _mnist(self, name: str) -> tuple[Path, list[str], Dataset, Dataset]:
        return shared("models", f"{name}_mnist.onnx"), data_options(), *digits()

    def _cifar(self, name: str) -> tuple[Path, list[str], Dataset, Dataset]:
        model, graph = shared("models", f"{name}_cifar10.onnx"), load_graph(shared("models", f"{name}_cifar10.onnx"))
        train, test = (str(folder) for folder in images())
        chosen, judging = (load_data(folder, graph, PREPROCESSING).train for folder in (train, test))
        return model, _options(train, test, "1/255", PREPROCESSING.mean, PREPROCESSING.std), chosen, judging

    def _imagenet(self, _: str) -> tuple[Path, list[str], Dataset, Dataset]:
        model = shared("models", "zoo", "squeezenet_fp16.onnx")
        train, test = _imagenet_files()
        graph = load_graph(model)
        chosen, judging = (load_data(str(file), graph, Preprocessing(1.0, CAFFE_MEAN)).train for file in (train, test))
        self.samples = len(chosen)
        return model, _options(str(train), str(test), "1", CAFFE_MEAN, ()), chosen, judging

    def feeds(self) -> list[Mapping[str, np.ndarray]]:
        """Return the calibration samples, one by one."""
        rows = np.linspace(0, len(self.train) - 1, self.samples).round().astype(np.int64)
        return [dict(self.train.batch(rows[i : i + 1]).feeds) for i in range(len(rows))]


def _options(train: str, test: str, scale: str, mean: tuple[float, ...], std: tuple[float, ...]) -> list[str]:
    found = ["--data", train, "--eval", test, "--scale", scale, "--mean", ",".join(map(str, mean))]
    return [*found, "--std", ",".join(map(str, std))] if std else found


def _imagenet_files() -> tuple[Path, Path]:
    """Return the sample as arrays, blue first and cropped to 224: every fifth image calibrates, the others judge."""
    FILES.mkdir(parents=True, exist_ok=True)
    train, test = FILES / "imagenet-train.npz", FILES / "imagenet-test.npz"
    if not test.exists():
        with zipfile.ZipFile(shared("data", "imagenet1k_sample.zip")) as archive:
            names = sorted(name for name in archive.namelist() if name.endswith(".jpg"))
            pictures = [Image.open(io.BytesIO(archive.read(name))).convert("RGB") for name in names]
        arrays = [np.asarray(item.crop((16, 16, 240, 240)))[:, :, ::-1].transpose(2, 0, 1) for item in pictures]
        pixels, is_train = np.stack(arrays), np.arange(len(arrays)) % 5 == 0
        np.savez(train, data_0=pixels[is_train])
        np.savez(test, data_0=pixels[~is_train])
    return train, test


def run(name: str) -> None:
    """Quantize one model by ours and by every peer, and measure them all."""
    case, folder = Case(name), FILES / name
    folder.mkdir(parents=True, exist_ok=True)
    ours = folder / "ours.onnx"
    done = compress([str(case.model), "--quant", "8bit", "--epochs", "0", *case.options], ours)
    files, absent = {"original": case.model, OURS: ours}, {}
    wide = folder / "float32.onnx"  # of half precision; no peer takes that
    save_proto(widen(load_graph(case.model))[0].proto, wide)
    for peer in peers.PEERS:
        target = folder / f"{peer.replace(' ', '-').lower()}.onnx"
        absent[peer] = peers.quantize(peer, wide, target, case.feeds())
        if not absent[peer]:
            files[peer] = target
    sessions = {key: open_session(file, threads=1) for key, file in files.items()}
    times = dict(zip(sessions, time_interleaved(list(sessions.values()), case.feeds()[0], SECONDS), strict=True))
    right = _judge(case, sessions)
    rows = {
        key: {"ms": times[key], "speedup": times["original"] / times[key], "bytes": file.stat().st_size, **right[key]}
        for key, file in files.items()
    }
    absent = {key: reason for key, reason in absent.items() if reason}
    kernels = {item["name"]: item.get("kernel_reason", "") for item in done.report["weights"]["tensors"]}
    parity = done.report["parity"]
    found = {"seconds": done.seconds, "rows": rows, "absent": absent, "kernels": kernels, "parity": parity}
    save(f"int8/{name}", {**machine(), **found})
    for key, row in rows.items():
        print(f"{key:32} {row}", flush=True)


def _judge(case: Case, sessions: Mapping[str, object]) -> dict[str, dict[str, float]]:
    """Return the accuracy, where there are labels, and the agreement with the original's first class, by file."""
    hits, same, count = dict.fromkeys(sessions, 0), dict.fromkeys(sessions, 0), 0
    size = load_graph(case.model).batch_size or 100
    for batch in case.test.batches(size):
        if len(batch) < size:
            break
        chosen = {key: _classes(session, batch.feeds, size) for key, session in sessions.items()}
        count += size
        for key, classes in chosen.items():
            same[key] += int((classes == chosen["original"]).sum())
            if batch.labels is not None:
                hits[key] += int((classes == batch.labels).sum())
    labelled = case.test.labels is not None
    return {
        key: {"agreement": same[key] / count, **({"accuracy": hits[key] / count} if labelled else {})}
        for key in sessions
    }


def _classes(session: ort.InferenceSession, feeds: Mapping[str, np.ndarray], size: int) -> np.ndarray:
    scores: np.ndarray = session.run(None, dict(feeds))[0]
    classes: np.ndarray = scores.reshape(size, -1).argmax(1)
    return classes


def zoo(names: list[str]) -> None:
    """Quantize models on inputs of their own, measure the change of their outputs and the time."""
    make, failed = _maker(), []
    for name in names or ZOO:
        try:
            row = _zoo_result(name, make)
        except subprocess.CalledProcessError as error:  # it has said why
            print(f"{name}: compress ended with exit status {error.returncode}", flush=True)
            failed.append(name)
            continue
        save(f"int8/zoo/{name}", {**machine(), **row})
        print(name, row, flush=True)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


def _zoo_result(name: str, make: Callable[..., dict[str, np.ndarray]]) -> dict[str, object]:
    """Quantize one model of the zoo and return what the table says of it."""
    model = shared("models", "zoo", f"{name}.onnx")
    proto, folder = onnx.load(model), FILES / "zoo" / name
    folder.mkdir(parents=True, exist_ok=True)
    inputs = [make(name, proto, seed) for seed in range(ZOO_SAMPLES)]
    stack = np.stack if load_graph(model).takes_sets else np.concatenate
    data, output = folder / "inputs.npz", folder / "ours.onnx"
    arrays: dict[str, Any] = {key: stack([item[key] for item in inputs]) for key in inputs[0]}
    np.savez(data, **arrays)
    done = compress([str(model), "--quant", "8bit", "--epochs", "0", "--data", str(data), "--device", "cpu"], output)
    sessions = [open_session(file, threads=1) for file in (model, output)]
    sample = Batch({key: array[None] for key, array in inputs[0].items()}, None, sets=True)
    (timed,) = measure_latency(model, output, sample, threads=1, seconds=SECONDS / 2, providers=[CPU])
    kernels = [item["kernel"] for item in done.report["weights"]["tensors"]]
    return {
        "kind": ZOO[name],
        "latency": without_details(timed),
        "bytes": [file.stat().st_size for file in (model, output)],
        "error": _error(sessions, [make(name, proto, 1000 + seed) for seed in range(8)]),
        "kernels": {kernel: kernels.count(kernel) for kernel in dict.fromkeys(kernels)},
        "seconds": done.seconds,
    }


def _maker() -> Callable[..., dict[str, np.ndarray]]:
    """Return the function of the shared models' own file that makes valid inputs."""
    sys.path.append(str(shared("models", "zoo", "inputs.py").parent))
    make: Callable[..., dict[str, np.ndarray]] = importlib.import_module("inputs").make
    return make


def _error(sessions: Sequence[ort.InferenceSession], feeds: list[dict[str, np.ndarray]]) -> float:
    """Return the error of the output that changes most, as a part of its own root mean square, or of ``FAINTEST``.

    Of the float outputs; of a model that has none, such as one that counts pixels, of the integers.
    """
    sums: dict[int, list[float]] = {}  # squared errors, squares, count
    kinds = "f" if any("float" in output.type for output in sessions[0].get_outputs()) else "iu"
    for feed in feeds:
        expected, got = (session.run(None, feed) for session in sessions)
        for index, array in enumerate(expected):
            if array.dtype.kind in kinds and array.shape == got[index].shape:
                total = sums.setdefault(index, [0.0, 0.0, 0.0])
                total[0] += float(np.square(got[index].astype(np.float64) - array.astype(np.float64)).sum())
                total[1] += float(np.square(array.astype(np.float64)).sum())
                total[2] += array.size
    return max(math.sqrt(error / max(size, count * FAINTEST**2)) for error, size, count in sums.values())


def write_tables() -> None:
    """Write both tables, and the README's."""
    rows = [row for file in sorted((RESULTS / "int8").glob("*.json")) for row in _rows(file)]
    header = ["model", "quantized by", "file bytes", "accuracy", "agreement", "latency", "speedup"]
    _put("int8", table(header, rows))
    zoo_rows = [_zoo_row(file) for file in sorted((RESULTS / "int8" / "zoo").glob("*.json"))]
    if not zoo_rows:
        return
    header = ["model", "what it does", "file bytes", "smaller", "output error", "latency", "speedup (95 %)", "kernels"]
    _put("int8_zoo", table(header, zoo_rows))


def _put(name: str, text: str) -> None:
    (RESULTS / f"{name}.md").write_text(text)
    fill_readme(name, f"{INTRODUCTIONS[name]}\n\n{text}")
    print(text)


def _rows(file: Path) -> Iterator[list[str]]:
    result = json.loads(file.read_text())
    for key, row in result["rows"].items():
        accuracy = f"{100 * row['accuracy']:.2f} %" if "accuracy" in row else ""
        agreement = f"{100 * row['agreement']:.2f} %"
        figures = [f"{row['bytes']:,}", accuracy, agreement, f"{row['ms']:.3f} ms", f"{row['speedup']:.2f}x"]
        yield [file.stem, f"`{key}`" if key == OURS else key, *figures]
    for key, reason in result["absent"].items():
        yield [file.stem, f"{key}: {reason}", "", "", "", "", ""]


def _zoo_row(file: Path) -> list[str]:
    row = json.loads(file.read_text())
    kernels = ", ".join(f"{count} {kernel}" for kernel, count in row["kernels"].items())
    ratio, timed = row["bytes"][0] / row["bytes"][1], row["latency"]
    low, high = timed["speedup_ci95"]
    return [
        file.stem,
        row["kind"],
        f"{row['bytes'][1]:,}",
        f"{ratio:.1f}x",
        f"{100 * row['error']:.1f} %",
        f"{timed['original']['p50_ms']:.2f} -> {timed['compressed']['p50_ms']:.2f} ms",
        f"{timed['speedup']:.2f}x ({low:.2f} to {high:.2f})",
        kernels,
    ]


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("run").add_argument("model", choices=("lenet5", "resnet20", "resnet32", "squeezenet"))
    commands.add_parser("zoo").add_argument("names", nargs="*", choices=[*ZOO, []])
    commands.add_parser("table")
    arguments = parser.parse_args()
    if arguments.command == "run":
        run(arguments.model)
    elif arguments.command == "zoo":
        zoo(arguments.names)
    else:
        write_tables()


if __name__ == "__main__":
    main()
