"""Data for calibration, training and evaluation: what ``--data`` and ``--eval`` may name."""

from pathlib import Path

from calibration.dataset import Batch, Dataset, Feed, LoadedData, Preprocessing
from calibration.files import load_npy, load_npz
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

_FORMS = "an .npz or .npy file, a folder of class folders of images, or package.module:function"

_READERS = {".npz": load_npz, ".npy": load_npy}


def load_data(spec: str, graph: Graph, preprocessing: Preprocessing) -> LoadedData:
    """Load the samples that ``spec`` names and fit them to the inputs of ``graph``.

    Args:
        spec: a path or ``package.module:function``.
        graph: the model whose inputs they feed.
        preprocessing: applied to every batch, and recorded in the report.

    Raises:
        DataError: there is nothing of that name, it cannot be read, or it does not fit the model.
    """
    path = Path(spec)
    if not path.exists():
        raise DataError(f"there is no data file or folder {spec}", hint=f"give {_FORMS}")
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise DataError(
            f"{spec}: data of type {path.suffix or 'without an extension'!r} cannot be read", hint=f"give {_FORMS}"
        )
    return reader(path, graph, preprocessing)
