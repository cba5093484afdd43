"""An AlexNet-sized graph without data: memory, time, bytes and latency at 62 million weights.

    python benchmarks/alexnet.py            # builds the graph, compresses it 36x / 2 bit, writes results/alexnet.json
                                        # and the README's table

The weights are random (He), so accuracy means nothing here; the layers are those of Krizhevsky et al. 2012 without the
split over two devices, 227x227 inputs.
"""

from typing import Any

from common import RESULTS, ROOT, compress, fill_readme, machine, save, table, take_no_arguments, without_details
from sized import build_alexnet

COMMAND = ["--prune", "36x", "--quant", "2bit", "--epochs", "1"]


def _seconds(entry: dict[str, Any], side: str) -> str:
    return f"{entry['load_ms'][side] / 1000:.2f} s"


def _peak(entry: dict[str, Any], side: str) -> str:
    """Return what loading and running a model adds at most to the memory of a process that has the runtime in it."""
    return f"{entry['memory'][side]['peak_bytes'] / 1e6:.0f} MB" if "memory" in entry else ""


def main() -> None:
    """Build, compress, save."""
    take_no_arguments(__doc__)
    folder = ROOT / "build" / "benchmarks"
    folder.mkdir(parents=True, exist_ok=True)
    model = folder / "alexnet.onnx"
    if not model.exists():
        build_alexnet(model)
    done = compress([str(model), *COMMAND], folder / "alexnet-36x-2bit.onnx")
    report = done.report
    save(
        "alexnet",
        {
            "command": " ".join(COMMAND),
            "seconds": done.seconds,
            "peak_bytes": done.peak_bytes,
            **machine(),
            "latency": without_details(report["latency"]),
            **{key: report[key] for key in ("size", "weights", "parity", "quality", "environment", "timings")},
        },
    )
    size, entry = report["size"], report["latency"][0]
    low, high = entry["speedup_ci95"]
    original, compressed = ([_seconds(entry, side), _peak(entry, side)] for side in ("original", "compressed"))
    text = table(
        [
            "command",
            "minutes",
            "peak memory",
            "file bytes",
            "smaller",
            "latency p50",
            "speedup (95 %)",
            "load",
            "peak of load and run",
        ],
        [
            [
                "original",
                "",
                "",
                f"{size['original_bytes']:,}",
                "1x",
                f"{entry['original']['p50_ms']:.2f} ms",
                "1x",
                *original,
            ],
            [
                f"`{' '.join(COMMAND)}`",
                f"{done.seconds / 60:.1f}",
                f"{done.peak_bytes / 2**30:.2f} GiB",
                f"{size['compressed_bytes']:,}",
                f"{size['ratio']:.1f}x",
                f"{entry['compressed']['p50_ms']:.2f} ms",
                f"{entry['speedup']:.2f}x ({low:.2f} to {high:.2f})",
                *compressed,
            ],
        ],
    )
    (RESULTS / "alexnet.md").write_text(text)
    fill_readme("alexnet", text)
    print(text)


if __name__ == "__main__":
    main()
