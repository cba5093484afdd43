"""Whether the exported file decides as the module that it was written from: the class of the highest score."""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch

from calibration.classes import class_outputs
from calibration.data import Batch
from toolchain.export.sessions import open_session, run_outputs
from toolchain.module import OnnxModule

SECONDS = 10.0  # that the comparison may take


@dataclass(frozen=True)
class Decisions:
    """How many of the compared samples get the same class from the file in ONNX Runtime and from the module."""

    samples: int = 0
    same: int = 0

    @property
    def share(self) -> float:
        """The part of the samples that get the same class."""
        return self.same / self.samples


def compare_decisions(
    model: Path, module: OnnxModule, batches: Iterable[Batch], seconds: float = SECONDS
) -> dict[str, Decisions]:
    """Return the decisions of every output of class scores, over as many batches as there is time for.

    Args:
        model: the exported file.
        module: what it was written from; evaluated with its formats, as it is.
        batches: what both are asked.
        seconds: after which no further batch is begun.
    """
    session, names = open_session(model, threads=0), [value.name for value in module.graph.outputs]
    found: dict[str, Decisions] = {}
    until = time.monotonic() + seconds
    for batch in batches:
        got = dict(zip(names, run_outputs(session, names, batch.feeds), strict=True))
        scores = class_outputs(got, len(batch), module.graph.output_shapes)
        if not scores:
            break
        with torch.no_grad():
            expected = module.run(batch.feeds, list(scores))
        for name, rows in scores.items():
            same = rows.argmax(1) == expected[name].cpu().numpy().reshape(rows.shape).argmax(1)
            seen = found.get(name, Decisions())
            found[name] = Decisions(seen.samples + len(same), seen.same + int(same.sum()))
        if time.monotonic() >= until:
            break
    return found
