"""The data of a run: what the user gave, or inputs synthesised for the model."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from calibration.classes import class_outputs, most_accurate
from calibration.data import Dataset, LoadedData, Preprocessing, Split, check_labels, load_data, split
from calibration.fit import check_variety
from calibration.synthesize import synthesize
from toolchain.errors import DataError
from toolchain.graph import Graph
from toolchain.module import OnnxModule

SYNTHETIC_BYTES = 256 * 2**20  # synthesised inputs take at most this much memory
SYNTHETIC_SAMPLES = 1024
PRELOAD_BYTES = 2 * 2**30  # prepared once up to here, prepared batch by batch beyond
PROBE_SAMPLES = 2  # a first dimension that follows the number of samples is told from one that is always 1
JUDGED_SAMPLES = 256  # on which outputs compete for the labels
JUDGED_BATCH = 32

NO_DATA = "No data were given: the original model teaches on synthetic inputs."


@dataclass(frozen=True)
class Workload:
    """Data sets of a run and what the report says of them.

    Attributes:
        split: training, selection and evaluation data.
        classes: the output that class labels speak of; None where no part has labels.
        notes: sentences for the user.
    """

    split: Split
    classes: str | None
    notes: tuple[str, ...]


def load_workload(
    module: OnnxModule, data: str | None, evaluation: str | None, preprocessing: Preprocessing, seed: int
) -> Workload:
    """Load the named data, or synthesise inputs where ``data`` is None.

    Args:
        module: the original model, in evaluation mode.
        data: what to train on, as ``load_data`` takes it.
        evaluation: what to measure on; None takes the test part of ``data``, or holds a part out.
        preprocessing: of both.
        seed: of synthesised inputs and of the split.

    Raises:
        DataError: the data cannot be read, do not fit the model, or are both trained and measured on.
    """
    graph = module.graph
    notes: tuple[str, ...] = ()
    # Read before inputs are synthesised, which takes longer: a mistake is said at once.
    loaded = None if evaluation is None else load_data(evaluation, graph, preprocessing)
    if data is None:
        source = LoadedData(synthesize(module, _synthetic_count(graph), seed))
        notes += (NO_DATA,)
    else:
        source = load_data(data, graph, preprocessing)
        check_variety(source.train, graph)
        notes += source.notes
    judged = None
    if evaluation is not None and loaded is not None:
        judged = loaded.train if loaded.test is None else loaded.test
        notes += loaded.notes
        if data is not None and _trained_on(judged, loaded, source, Path(data).resolve() == Path(evaluation).resolve()):
            raise DataError(
                f"--eval {evaluation} names the samples that --data {data} trains on",
                hint="leave --eval out, so that a part is held out, or name samples that are not trained on",
            )
    parts = split(source, judged, seed)
    for part in (parts.train, parts.selection, parts.evaluation):
        _check_size(part, graph)
    classes = _class_output(module, (parts.train, parts.selection, parts.evaluation))
    parts = replace(parts, train=parts.train.preload(PRELOAD_BYTES), selection=parts.selection.preload(PRELOAD_BYTES))
    return Workload(parts, classes, tuple(dict.fromkeys((*notes, parts.note))))


def _trained_on(judged: Dataset, loaded: LoadedData, source: LoadedData, same_name: bool) -> bool:
    """Return whether the evaluation samples are the training samples, by the name they have or by their values."""
    if loaded.test is None and same_name:
        return True
    train = source.train
    return len(judged) == len(train) and all(
        np.array_equal(array, train.inputs[name]) for name, array in judged.inputs.items()
    )


def _synthetic_count(graph: Graph) -> int:
    """Return how many inputs fit the memory set aside for them."""
    first = 0 if graph.takes_sets else 1
    per_sample = sum(
        int(np.prod([size if isinstance(size, int) else 224 for size in (value.shape or ())[first:]])) * 4
        for value in graph.inputs
    )
    least = 16 * (graph.batch_size or 1)  # so that each held-out tenth still makes a batch
    return int(np.clip(SYNTHETIC_BYTES // max(1, per_sample), least, max(least, SYNTHETIC_SAMPLES)))


def _check_size(data: Dataset, graph: Graph) -> None:
    if len(data) < (graph.batch_size or 1):
        raise DataError(
            f"the model takes {graph.batch_size} samples at a time, and a part of {data.source} has only {len(data)}",
            hint="give more data, or export the model with an open batch dimension",
        )


def _class_output(module: OnnxModule, parts: Iterable[Dataset]) -> str | None:
    """Return the output that the labels speak of, None where there are none; every label must name one of its classes.

    Of several outputs with class scores it is the one on which the model is most accurate.
    """
    labelled = [(part, part.labels) for part in parts if part.labels is not None]
    if not labelled:
        return None
    first, labels = labelled[0]
    count = module.graph.batch_size or min(len(first), PROBE_SAMPLES)
    outputs = _answers(module, first, np.arange(count))
    candidates = class_outputs(outputs, count)
    if not candidates:
        shapes = ", ".join(f"{name!r} {list(output.shape)}" for name, output in outputs.items()) or "none"
        raise DataError(
            f"{first.source} has labels, but no output of the model holds class scores [N, classes] of two or more "
            f"classes; its float outputs for {count} samples: {shapes}",
            hint="leave the labels out: the original model then teaches on every output",
        )
    name = next(iter(candidates)) if len(candidates) == 1 else _most_accurate(module, first, labels, list(candidates))
    for _, labels in labelled:
        check_labels(labels, candidates[name].shape[1])
    return name


def _most_accurate(module: OnnxModule, data: Dataset, labels: np.ndarray, names: list[str]) -> str:
    """Return which of the named outputs answers most labels, of samples taken evenly from ``data``."""
    size = module.graph.batch_size or min(len(data), JUDGED_BATCH)
    count = max(1, min(len(data), JUDGED_SAMPLES) // size) * size  # whole batches, as the model may insist on them
    chosen = np.linspace(0, len(data) - 1, count).astype(np.int64)
    batches = [class_outputs(_answers(module, data, index), size) for index in chosen.reshape(-1, size)]
    scores = {name: np.concatenate([batch[name] for batch in batches]) for name in names}
    return most_accurate(scores, labels[chosen])


def _answers(module: OnnxModule, data: Dataset, index: np.ndarray) -> dict[str, np.ndarray]:
    """Return the float outputs of the model for the samples at ``index``."""
    names = [value.name for value in module.graph.outputs if value.dtype.kind == "f"]
    with torch.no_grad():
        return {name: value.cpu().numpy() for name, value in module.run(data.batch(index).feeds, names).items()}
