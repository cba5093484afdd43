"""Reads numpy files; nothing is unpickled, and sizes are checked before memory is taken."""

import os
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import numpy as np

from calibration.dataset import LoadedData, Preprocessing
from calibration.fit import fit_arrays
from toolchain.errors import DataError
from toolchain.graph import Graph

LABEL_NAMES = ("labels", "y", "y_train")

_PICKLED = "save plain numbers with numpy.savez; arrays of Python objects are not read, as that could run code"


def check_memory(needed: int, source: str) -> None:
    """Check that ``needed`` bytes of samples fit: a third of the machine's memory, as splitting copies them.

    Raises:
        DataError: they do not.
    """
    limit = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 3
    if needed > limit:
        raise DataError(
            f"{source} needs {needed / 2**30:.1f} GiB, more than a third of this machine's memory "
            f"({limit / 2**30:.1f} GiB)",
            hint="give a part of the data; for calibration and distillation some thousand samples are enough",
        )


def single_input(graph: Graph, source: str) -> str:
    """Return the name of the model's only input.

    Raises:
        DataError: the model has several.
    """
    names = [value.name for value in graph.inputs]
    if len(names) != 1:
        raise DataError(
            f"{source} feeds one input, the model has {len(names)}: {', '.join(names)}",
            hint="give an .npz file with one array per model input",
        )
    return names[0]


def load_npy(path: Path, graph: Graph, preprocessing: Preprocessing) -> LoadedData:
    """Read one unlabelled array.

    Raises:
        DataError: it cannot be read or does not fit.
    """
    name = single_input(graph, str(path))
    check_memory(path.stat().st_size, str(path))
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        hint = _PICKLED if "object" in str(error).lower() else "save it again with numpy.save"
        raise DataError(f"cannot read {path}: {error}", hint=hint) from error
    fitted = fit_arrays({name: array}, None, graph, preprocessing, str(path))
    return LoadedData(fitted.dataset, None, fitted.notes)


def load_npz(path: Path, graph: Graph, preprocessing: Preprocessing) -> LoadedData:
    """Read arrays named after the model's inputs, with optional labels, or x_train, y_train, x_test, y_test.

    Raises:
        DataError: it cannot be read or does not fit.
    """
    arrays = _read_npz(path)
    if "x_train" in arrays and not any(value.name in arrays for value in graph.inputs):
        return _conventional(arrays, graph, preprocessing, str(path))
    inputs = {value.name for value in graph.inputs}
    found = [name for name in LABEL_NAMES if name in arrays and name not in inputs]
    if len(found) > 1:
        raise DataError(f"{path}: labels are given as {' and as '.join(map(repr, found))}", hint="keep one of them")
    labels = arrays.pop(found[0]) if found else None
    fitted = fit_arrays(arrays, labels, graph, preprocessing, str(path))
    return LoadedData(fitted.dataset, None, fitted.notes)


def _conventional(arrays: dict[str, np.ndarray], graph: Graph, preprocessing: Preprocessing, source: str) -> LoadedData:
    name = single_input(graph, source)
    if "y_test" in arrays and "x_test" not in arrays:
        raise DataError(f"{source}: there is y_test but no x_test", hint="add x_test or remove y_test")
    train = fit_arrays({name: arrays["x_train"]}, arrays.get("y_train"), graph, preprocessing, f"{source} (x_train)")
    if "x_test" not in arrays:
        return LoadedData(train.dataset, None, train.notes)
    test = fit_arrays({name: arrays["x_test"]}, arrays.get("y_test"), graph, preprocessing, f"{source} (x_test)")
    return LoadedData(train.dataset, test.dataset, train.notes)


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    arrays = {}
    try:
        with zipfile.ZipFile(path) as archive:
            members = [info for info in archive.infolist() if info.filename.endswith(".npy")]
            check_memory(sum(info.file_size for info in members), str(path))
            for info in members:
                name = info.filename.removesuffix(".npy")
                with archive.open(info) as file:
                    _check_header(file, info.file_size, f"{path}: array {name!r}")
                with archive.open(info) as file:
                    arrays[name] = np.lib.format.read_array(file, allow_pickle=False)
    except (zipfile.BadZipFile, ValueError, OSError, EOFError) as error:
        raise DataError(
            f"cannot read {path}: {error}", hint="it is not an .npz file, or it is truncated; save it again"
        ) from error
    return arrays


def _check_header(file: IO[bytes], size: int, where: str) -> None:
    """Check that the array the header announces is numbers, and that its bytes are there."""
    version = np.lib.format.read_magic(file)
    reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = reader(file)
    if dtype.hasobject:
        raise DataError(f"{where} holds Python objects", hint=_PICKLED)
    needed = _bytes(shape, dtype)
    if needed > size:
        raise DataError(f"{where} is truncated: {size:,} bytes, {needed:,} expected", hint="save it again")


def _bytes(shape: Sequence[int], dtype: np.dtype) -> int:
    total = dtype.itemsize
    for dim in shape:
        total *= dim
    return total
