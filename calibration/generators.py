"""Reads batches from a Python function that the user names as ``package.module:function``."""

import importlib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from calibration.dataset import LoadedData, Preprocessing
from calibration.files import LABEL_NAMES, check_memory, single_input
from calibration.fit import fit_arrays
from toolchain.errors import DataError, nearest
from toolchain.graph import Graph

_FORMS = "a batch is {input name: array}, (inputs, labels), or one array"


def load_function(spec: str, graph: Graph, preprocessing: Preprocessing) -> LoadedData:
    """Call a function without arguments and keep the batches it yields as arrays.

    A batch is a dict of arrays by input name (labels among them, if any, as "labels" or "y"), a pair of inputs and
    labels, or one array for a model of one input. The module is looked for in the current folder too.

    Raises:
        DataError: the function is not found, fails, or yields what does not fit the model.
    """
    collected: dict[str, list[np.ndarray]] = {}
    total = 0
    with _current_folder_importable():
        for number, batch in enumerate(_iterate(_find(spec), spec)):
            arrays = _arrays(batch, graph, f"{spec}: batch {number}")
            if collected and arrays.keys() != collected.keys():
                names, first = ", ".join(sorted(arrays)), ", ".join(sorted(collected))
                raise DataError(f"{spec}: batch {number} holds {names}, the first {first}")
            for name, array in arrays.items():
                collected.setdefault(name, []).append(array)
                total += array.nbytes
            check_memory(2 * total, spec)  # the batches, and the arrays they are joined into
    joined = {name: _join(parts, f"{spec}: array {name!r}") for name, parts in collected.items()}
    if not joined:
        raise DataError(f"{spec} yields no batches", hint=_FORMS)
    inputs = {value.name for value in graph.inputs}
    found = [name for name in LABEL_NAMES if name in joined and name not in inputs]
    labels = joined.pop(found[0]) if found else None
    fitted = fit_arrays(joined, labels, graph, preprocessing, spec)
    return LoadedData(fitted.dataset, None, fitted.notes)


@contextmanager
def _current_folder_importable() -> Iterator[None]:
    """A console script does not look for modules in the current folder, unlike ``python -m``."""
    before = list(sys.path)
    sys.path.insert(0, str(Path.cwd()))
    try:
        yield
    finally:
        sys.path[:] = before


def _find(spec: str) -> Callable[[], Iterable[object]]:
    module_name, _, function_name = spec.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise DataError(
            f"{spec}: there is no module {error.name!r}",
            hint="run in the folder that the module lies in, or install it",
        ) from error
    except Exception as error:  # importing runs the user's code, which may raise anything
        raise DataError(f"{spec}: importing {module_name} failed with {type(error).__name__}: {error}") from error
    function = vars(module).get(function_name)
    if not callable(function):
        known = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
        raise DataError(
            f"{spec}: module {module_name} has no function {function_name!r}",
            hint=nearest(function_name, known) if known else "it defines no functions",
        )
    found: Callable[[], Iterable[object]] = function
    return found


def _iterate(function: Callable[[], Iterable[object]], spec: str) -> Iterator[object]:
    try:
        yield from function()
    except Exception as error:  # the user's code may raise anything
        raise DataError(f"{spec} failed with {type(error).__name__}: {error}", hint=_FORMS) from error


def _arrays(batch: object, graph: Graph, where: str) -> dict[str, np.ndarray]:
    """Return the arrays of one batch by input name, labels as "labels"."""
    if isinstance(batch, Mapping):
        return {str(name): _array(value, f"{where}, {name!r}") for name, value in batch.items()}
    if isinstance(batch, tuple | list):
        if len(batch) != 2:
            raise DataError(f"{where} is a {type(batch).__name__} of {len(batch)}", hint=_FORMS)
        return _arrays(batch[0], graph, where) | {"labels": _array(batch[1], f"{where}, labels")}
    return {single_input(graph, where): _array(batch, where)}


def _array(value: object, where: str) -> np.ndarray:
    """Return a private copy, as a generator may fill the same buffer again."""
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().numpy()
    try:
        array = np.array(value)
    except (TypeError, ValueError) as error:
        raise DataError(f"{where} is a {type(value).__name__}, not an array: {error}", hint=_FORMS) from error
    if array.dtype.kind not in "iubf" or not array.ndim:
        raise DataError(f"{where} is a {type(value).__name__}, not an array of numbers with samples", hint=_FORMS)
    return array


def _join(parts: list[np.ndarray], where: str) -> np.ndarray:
    shapes = {part.shape[1:] for part in parts}
    if len(shapes) > 1:
        found = " and ".join(str(["N", *shape]) for shape in sorted(shapes))
        raise DataError(f"{where} changes its shape between batches: {found}", hint="pad or crop samples to one shape")
    return np.concatenate(parts)
