"""The outputs of this machine, with which those of others are compared."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from toolchain.bench import probe
from toolchain.bench.differences import model_differences
from toolchain.bench.explain import failure
from toolchain.bench.foreign import read_arrays
from toolchain.progress import Progress


class Reference:
    """The outputs of this machine: those of every model on every set of feeds.

    Attributes:
        cases: the probe's cases, by the file of their feeds.
        arrays: what their outputs number.
    """

    def __init__(self, job: probe.Job, folder: Path, progress: Progress) -> None:
        feeds = {case.feeds: replace(case, threads=0, provider=probe.CPU, transfers="in") for case in job.cases}
        progress.phase("run here")
        here = replace(job, cases=list(feeds.values()), measure=["outputs"])
        result = probe.run(here, folder, lambda what, done: progress.update(done, {"now:": what}))
        self.cases: Mapping[str, Any] = dict(zip(feeds, result["cases"], strict=True))
        self.arrays = read_arrays((folder / "outputs.npz").read_bytes())

    def add_differences(
        self, case: dict[str, Any], feeds: str, found: Mapping[str, Any], data: bytes | None
    ) -> list[str]:
        """Add ``differences`` to every model of a case that ran on both machines; return notes on those that did not.

        Args:
            case: of the bench document.
            feeds: the file of its feeds.
            found: what the probe found there.
            data: its ``outputs.npz``.
        """
        there, notes = [] if data is None else read_arrays(data), []
        for index, model in enumerate(case["models"]):
            theirs, here = found["models"][index]["outputs"], self.cases[feeds]["models"][index]
            if theirs is not None and here["outputs"] is not None:
                model["differences"] = model_differences(theirs, there, here["outputs"], self.arrays)
            elif theirs is not None:
                why = failure(model["name"], here["error"], probe.CPU)
                notes.append(f"outputs of {model['name']} were not compared, as this machine has none: {why}")
        return notes

    def loads(self, feeds: str, index: int) -> bool:
        """Tell whether the model at ``index`` runs on this machine."""
        return self.cases[feeds]["models"][index]["error"] is None
