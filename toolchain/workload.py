"""The data of a run: what the user gave, or inputs synthesised for the model."""

from dataclasses import dataclass, replace

import numpy as np
import torch

from calibration.data import Dataset, LoadedData, Preprocessing, Split, check_labels, load_data, split
from calibration.synthesize import synthesize
from passes.objective import class_output
from toolchain.errors import DataError
from toolchain.graph import Graph
from toolchain.module import OnnxModule

SYNTHETIC_BYTES = 256 * 2**20  # synthesised inputs take at most this much memory
SYNTHETIC_SAMPLES = 1024
PRELOAD_BYTES = 2 * 2**30  # prepared once up to here, prepared batch by batch beyond


@dataclass(frozen=True)
class Workload:
    """Data sets of a run and what the report says of them.

    Attributes:
        split: training, selection and evaluation data.
        notes: sentences for the user.
    """

    split: Split
    notes: tuple[str, ...]

    @property
    def labelled(self) -> bool:
        """Whether the training data have labels that an output of the model can answer."""
        return self.split.train.labels is not None


def load_workload(
    module: OnnxModule, data: str | None, evaluation: str | None, preprocessing: Preprocessing, seed: int
) -> Workload:
    """Load the named data, or synthesise inputs where ``data`` is None.

    Raises:
        DataError: the data cannot be read or do not fit the model.
    """
    graph = module.graph
    judged = None
    notes: tuple[str, ...] = ()
    if evaluation is not None:
        loaded = load_data(evaluation, graph, preprocessing)
        judged = loaded.train if loaded.test is None else loaded.test
        notes += loaded.notes
    if data is None:
        source = LoadedData(synthesize(module, _synthetic_count(graph), seed))
        if judged is None:
            notes += ("No data were given: the original model teaches on synthetic inputs.",)
    else:
        source = load_data(data, graph, preprocessing)
        notes += source.notes
    parts = split(source, judged, seed)
    for part in (parts.train, parts.selection, parts.evaluation):
        _check_size(part, graph)
        _check_classes(part, module)
    parts = replace(
        parts,
        train=parts.train.preload(PRELOAD_BYTES),
        selection=parts.selection.preload(PRELOAD_BYTES),
        evaluation=parts.evaluation,
    )
    return Workload(parts, (*notes, parts.note))


def _synthetic_count(graph: Graph) -> int:
    """Return how many inputs fit the memory set aside for them."""
    per_sample = sum(
        int(np.prod([size if isinstance(size, int) else 224 for size in (value.shape or ())[1:]])) * 4
        for value in graph.inputs
    )
    return int(np.clip(SYNTHETIC_BYTES // max(1, per_sample), 16, SYNTHETIC_SAMPLES))


def _check_size(data: Dataset, graph: Graph) -> None:
    if len(data) < (graph.batch_size or 1):
        raise DataError(
            f"the model takes {graph.batch_size} samples at a time, and a part of {data.source} has only {len(data)}",
            hint="give more data, or export the model with an open batch dimension",
        )


def _check_classes(data: Dataset, module: OnnxModule) -> None:
    """Check that every label names a class of the model's class output."""
    if data.labels is None:
        return
    name = class_output(module.graph)
    if name is None:
        raise DataError(
            f"{data.source} has labels, but no output of the model holds class scores [N, classes]",
            hint="leave the labels out: the original model then teaches on every output",
        )
    with torch.no_grad():
        scores = module.run(data.batch(np.arange(module.graph.batch_size or 1)).inputs, [name])[name]
    check_labels(data.labels, scores.shape[1])
