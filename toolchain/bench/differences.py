"""How far the outputs of another machine are from this one's."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Output = dict[str, Any]


def model_differences(
    there: Sequence[Mapping[str, Any]],
    arrays_there: Sequence[np.ndarray],
    here: Sequence[Mapping[str, Any]],
    arrays_here: Sequence[np.ndarray],
) -> list[Output]:
    """Return ``{name, max_abs, max_relative, top1_agreement, objection}`` of every output of a model.

    Args:
        there: the probe's ``outputs`` of the model, ``{name, array}``.
        arrays_there: what ``array`` numbers.
        here: the same of this machine.
        arrays_here: what ``array`` numbers here.
    """
    known = {output["name"]: output["array"] for output in here}
    found = []
    for output in there:
        name, number = str(output["name"]), output["array"]
        own = known.get(name)
        if number is None or own is None:
            found.append(_output(name, objection="is no array of numbers"))
        else:
            found.append(difference(name, np.asarray(arrays_there[number]), np.asarray(arrays_here[own])))
    return found


def difference(name: str, there: np.ndarray, here: np.ndarray) -> Output:
    """Return how far the array ``there`` is from the same output ``here``.

    ``max_relative`` is the largest difference over the largest value, because single values may be near zero.
    ``top1_agreement`` is the share of rows whose largest of several scores ``[N, classes]`` is at the same place.
    """
    if there.shape != here.shape or there.dtype != here.dtype:
        shapes = [f"{array.dtype}{list(array.shape)}" for array in (there, here)]
        return _output(name, objection=f"is {shapes[0]} there, {shapes[1]} here")
    theirs, ours = there.astype(np.float64), here.astype(np.float64)
    if not np.array_equal(np.isfinite(theirs), np.isfinite(ours)):
        return _output(name, objection="is infinite or not a number in other places")
    both = np.isfinite(theirs)
    if not np.array_equal(theirs[~both], ours[~both], equal_nan=True):
        return _output(name, objection="is infinite with another sign, or not a number")
    largest = float(np.abs(theirs[both] - ours[both]).max(initial=0.0))
    scale = float(np.abs(ours[both]).max(initial=0.0))
    scores = there.dtype.kind == "f" and there.ndim == 2 and there.shape[1] > 1 and len(there) > 0
    return _output(
        name,
        max_abs=largest,
        max_relative=largest / scale if scale else (0.0 if largest == 0 else None),
        top1_agreement=float(np.mean(theirs.argmax(1) == ours.argmax(1))) if scores else None,
    )


def _output(
    name: str,
    max_abs: float | None = None,
    max_relative: float | None = None,
    top1_agreement: float | None = None,
    objection: str | None = None,
) -> Output:
    return {
        "name": name,
        "max_abs": max_abs,
        "max_relative": max_relative,
        "top1_agreement": top1_agreement,
        "objection": objection,
    }


def largest_difference(models: Sequence[Mapping[str, Any]]) -> float | None:
    """Return the largest difference over all outputs of these models of a case; None where one cannot be compared."""
    found = [output["max_abs"] for model in models for output in model.get("differences") or [{"max_abs": None}]]
    return None if None in found else max(found, default=None)
