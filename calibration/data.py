"""Data for calibration, training and evaluation: what ``--data`` and ``--eval`` may name."""

import re
from pathlib import Path

from calibration.dataset import Batch, Dataset, Feed, LoadedData, Preprocessing
from calibration.files import load_npy, load_npz
from calibration.generators import load_function
from calibration.images import load_images
from calibration.labels import check_labels
from calibration.split import Split, split
from toolchain.errors import DataError
from toolchain.graph import Graph

__all__ = [
    "Batch",
    "Dataset",
    "Feed",
    "LoadedData",
    "Preprocessing",
    "Split",
    "check_labels",
    "load_data",
    "split",
]

_FUNCTION = re.compile(r"[\w.]+:\w+")
_FORMS = "an .npz or .npy file, a folder of class folders of images, or package.module:function"


def load_data(spec: str, graph: Graph, preprocessing: Preprocessing) -> LoadedData:
    """Load the samples that ``spec`` names and fit them to the inputs of ``graph``.

    Args:
        spec: a path, or ``package.module:function``.
        graph: the model whose inputs they feed.
        preprocessing: applied to every batch, and recorded in the report.

    Raises:
        DataError: there is nothing of that name, it cannot be read, or it does not fit the model.
    """
    path = Path(spec)
    if path.is_dir():
        return load_images(path, graph, preprocessing)
    suffix = path.suffix.lower()
    if path.is_file():
        if suffix == ".npz":
            return load_npz(path, graph, preprocessing)
        if suffix == ".npy":
            return load_npy(path, graph, preprocessing)
        raise DataError(f"{spec}: files of type {suffix!r} cannot be read as data", hint=f"give {_FORMS}")
    if _FUNCTION.fullmatch(spec):
        return load_function(spec, graph, preprocessing)
    raise DataError(f"there is no data file or folder {spec}", hint=f"give {_FORMS}")
