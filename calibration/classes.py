"""Which outputs of a model hold class scores, and which of them class labels speak of: the one definition of both.

Class scores are a float tensor ``[N, C]`` or ``[N, C, 1, ...]`` with a row per sample and at least two classes. What
the model declares may be open, so it is decided on what the model actually answers; but where it declares as many
columns as its input asks for, those are places and no classes.
"""

from collections.abc import Mapping, Sequence

import numpy as np

Shape = Sequence[int | str | None]


def is_class_shape(shape: Shape) -> bool:
    """Return whether a shape is ``[N, C]`` or ``[N, C, 1, ...]``; not where ``C`` or a trailing dimension is open."""
    return len(shape) >= 2 and isinstance(shape[1], int) and shape[1] >= 2 and all(size == 1 for size in shape[2:])


def class_scores(output: np.ndarray, count: int) -> np.ndarray | None:
    """Return an output for ``count`` samples as scores ``[N, C]``, or None where it does not hold class scores."""
    if output.dtype.kind != "f" or not is_class_shape(output.shape) or len(output) != count:
        return None
    return output.reshape(count, -1)


def class_outputs(
    outputs: Mapping[str, np.ndarray], count: int, declared: Mapping[str, Shape | None] | None = None
) -> dict[str, np.ndarray]:
    """Return the scores ``[N, C]`` of every output that holds class scores, in the order of ``outputs``.

    Args:
        outputs: what the model answers.
        count: samples that it was asked.
        declared: shapes that the model promises, by output. Of ``[N, C, 1, ...]`` with an open ``C`` it has no classes
            there but places, such as a detector's anchors: how many classes there are does not depend on the input.
    """
    places = {name for name, shape in (declared or {}).items() if shape and _has_open_places(shape)}
    found = {name: class_scores(output, count) for name, output in outputs.items() if name not in places}
    return {name: scores for name, scores in found.items() if scores is not None}


def _has_open_places(shape: Shape) -> bool:
    return len(shape) > 2 and not isinstance(shape[1], int)


def most_accurate(scores: Mapping[str, np.ndarray], labels: np.ndarray) -> str:
    """Return the name of the scores ``[N, C]`` that name most of the labels ``[N]``; the first of equals.

    Scores with a class for every label come before scores without.
    """

    def fitness(name: str) -> tuple[bool, int]:
        return labels.max() < scores[name].shape[1], int((scores[name].argmax(1) == labels).sum())

    return max(scores, key=fitness)
