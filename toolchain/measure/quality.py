"""Accuracy, agreement and fidelity of the compressed file against the original, both run in ONNX Runtime."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from calibration.classes import class_outputs, class_scores, most_accurate
from calibration.dataset import Dataset
from toolchain.errors import ExportError
from toolchain.measure.agreement import ClassAgreement
from toolchain.measure.fidelity import Closeness
from toolchain.measure.session import open_session, run_session

BATCH = 32  # where the model leaves the batch dimension open

ACCURACY = "top-1 accuracy"
AGREEMENT = "agreement with the original"
COSINE = "cosine similarity to the original"


def quality_section(
    original: Path, compressed: Path, dataset: Dataset, threads: int | None = None, classes: str | None = None
) -> dict[str, Any]:
    """Return the report's ``quality`` section: both files run over every sample of ``dataset``.

    The metric is top-1 accuracy where there are labels and an output ``[N, classes]``; agreement (both files choose
    the same class) where there are no labels; cosine similarity where no output holds class scores. ``drop`` is
    original minus compressed. ``fidelity`` has a row per output, ``classes`` one per class, and ``worst`` one for each
    of the samples that changed most.

    Args:
        original: the model before.
        compressed: the model after, with the same inputs and outputs.
        dataset: samples that were not trained on; labels are class indices, shape ``[N]``.
        threads: threads of one operator; None takes every core this process may use.
        classes: the output that the labels speak of; None takes, of the outputs with class scores, the one that is most
            accurate on the first batch, or the first where there are no labels.

    Raises:
        ExportError: a file does not run, or has no output of numbers.
    """
    first, second = (open_session(path, threads=threads) for path in (original, compressed))
    size = 1 if dataset.sets else fixed_batch(first)
    closeness: dict[str, Closeness] = {}
    scores: str | None = None
    agreement = ClassAgreement()
    for batch in dataset.batches(size or BATCH):
        count = len(batch)
        before, after = (_run(session, batch.feeds, count, size) for session in (first, second))
        if not closeness:
            closeness = {name: Closeness() for name in _compared(before)}
            declared = {value.name: value.shape for value in first.get_outputs()}
            answers = {name: before[name] for name in closeness}
            scores = classes or _class_output(class_outputs(answers, count, declared), batch.labels)
        for name, sums in closeness.items():
            sums.add(before[name], after[name])
        if scores is not None:
            agreement.add(_scores(before, scores, count), _scores(after, scores, count), batch.labels)
    return _summarize(closeness, scores, agreement, dataset)


def fixed_batch(session: ort.InferenceSession) -> int | None:
    """Return the batch size that the model's inputs insist on, or None where it is open."""
    leading = [value.shape[0] for value in session.get_inputs() if value.shape]
    return next((size for size in leading if isinstance(size, int)), None)


def _run(
    session: ort.InferenceSession, inputs: Mapping[str, np.ndarray], count: int, size: int | None
) -> dict[str, np.ndarray]:
    """Run ``count`` samples; a short last batch is filled up to ``size`` by its last sample, and cut again."""
    missing = (size or count) - count
    if not missing:
        return run_session(session, inputs)
    filled = {name: np.concatenate([array, np.repeat(array[-1:], missing, axis=0)]) for name, array in inputs.items()}
    outputs = run_session(session, filled)
    return {
        name: array[:count] if isinstance(array, np.ndarray) and array.ndim and len(array) == size else array
        for name, array in outputs.items()
    }


def _compared(outputs: Mapping[str, np.ndarray]) -> list[str]:
    """Return the float outputs; all outputs of numbers where none is float."""
    kinds = {name: array.dtype.kind for name, array in outputs.items() if isinstance(array, np.ndarray)}
    floats = [name for name, kind in kinds.items() if kind == "f"]
    found = floats or [name for name, kind in kinds.items() if kind in "iub"]
    if not found:
        raise ExportError(f"none of the outputs {', '.join(outputs)} is a tensor of numbers, nothing can be compared")
    return found


def _class_output(scores: Mapping[str, np.ndarray], labels: np.ndarray | None) -> str | None:
    return next(iter(scores), None) if labels is None or not scores else most_accurate(scores, labels)


def _scores(outputs: Mapping[str, np.ndarray], name: str, count: int) -> np.ndarray:
    scores = class_scores(outputs[name], count)
    if scores is None:
        raise ExportError(f"output {name!r} has shape {list(outputs[name].shape)}, class scores of {count} expected")
    return scores


def _summarize(
    closeness: Mapping[str, Closeness], scores: str | None, classes: ClassAgreement, dataset: Dataset
) -> dict[str, Any]:
    fidelity = {name: sums.result() for name, sums in closeness.items()}
    interval = None
    if scores is None:
        cosines = [row["cosine"] for row in fidelity.values() if row["cosine"] is not None]
        metric, before, after = COSINE, 1.0, min(cosines, default=None)
    else:
        fidelity[scores] |= {"kl_divergence": classes.divergence / classes.samples, "agreement": classes.agreement}
        if dataset.labels is not None:
            metric, (before, after), interval = ACCURACY, classes.accuracy, list(classes.drop_ci95())
        else:
            metric, before, after = AGREEMENT, 1.0, classes.agreement
    section = {
        "metric": metric,
        "original": before,
        "compressed": after,
        "drop": None if after is None else before - after,
        "fidelity": fidelity,
        "samples": len(dataset),
        "data": dataset.kind,
        "source": dataset.source,
        "preprocessing": dataset.preprocessing.to_json(),
        "classes": classes.class_rows(),
        "worst": classes.worst,
    }
    return section if interval is None else section | {"drop_ci95": interval}
