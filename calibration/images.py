"""Reads folders of class folders of images."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from calibration.classes import is_class_shape
from calibration.dataset import LoadedData, Preprocessing
from calibration.files import check_memory, single_input
from calibration.fit import Fitted, fit_arrays, model_layout
from toolchain.errors import DataError
from toolchain.graph import Graph, Value

EXTENSIONS = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")

_MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # Pillow's name by number of channels
_WIDE_MODES = ("F", "I", "I;16", "I;16B", "I;16L")  # more than 8 bits: converting would clip, not scale

_TEST_NAMES = ("test", "val", "validation")


def load_images(folder: Path, graph: Graph, preprocessing: Preprocessing) -> LoadedData:
    """Read ``folder/CLASS/*.png`` or ``folder/{train,test}/CLASS/*.png``; a class's index is its place in name order.

    Images become uint8; grey or colour by the model's channel count. One whose size is not the model's is scaled by
    its shorter side and cropped around the centre, and the source says how many were.

    Raises:
        DataError: there are no class folders, an image is broken, or the model takes no images.
    """
    name = single_input(graph, str(folder))
    value = next(value for value in graph.inputs if value.name == name)
    if value.shape is not None and len(value.shape) != 4:
        raise DataError(
            f"{folder} holds images, but model input {name!r} has {len(value.shape)} dimensions, images need 4",
            hint="give an .npz file with an array of that shape",
        )
    train_folder, test_folder = _parts(folder)
    classes = [path.name for path in _folders(train_folder)]
    train = _load(train_folder, classes, graph, value, preprocessing)
    notes = (*train.notes, *_class_note(classes, graph))
    if test_folder is None:
        return LoadedData(train.dataset, None, notes)
    return LoadedData(train.dataset, _load(test_folder, classes, graph, value, preprocessing).dataset, notes)


def _folders(folder: Path) -> list[Path]:
    return [path for path in _entries(folder) if path.is_dir()]


def _files(folder: Path) -> list[Path]:
    return [path for path in _entries(folder) if path.suffix.lower() in EXTENSIONS]


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise DataError(f"cannot read the folder {folder}: {error.strerror}") from error


def _parts(folder: Path) -> tuple[Path, Path | None]:
    """Return the folders that hold the class folders of the training and of the test part."""
    test = next((folder / name for name in _TEST_NAMES if (folder / name).is_dir()), None)
    if (folder / "train").is_dir() and not _files(folder / "train"):
        return folder / "train", test
    return folder, None


def _class_note(classes: list[str], graph: Graph) -> tuple[str, ...]:
    outputs = [value for value in graph.outputs if value.dtype.kind == "f" and is_class_shape(value.shape or ())]
    counts = [value.shape[1] for value in outputs if value.shape is not None]
    if not counts or len(classes) in counts:
        return ()
    return (
        f"there are {len(classes)} class folders, and the model's output {outputs[0].name!r} has {counts[0]} "
        "values: the label of an image is the place of its folder in name order, check that this is the model's order",
    )


def _load(folder: Path, classes: list[str], graph: Graph, value: Value, preprocessing: Preprocessing) -> Fitted:
    paths, labels = _list(folder, classes)
    layout = model_layout(graph, value)
    channels, size = _wanted(value, layout, paths[0])
    check_memory(len(paths) * channels * size[0] * size[1], str(folder))
    pixels = np.empty((len(paths), *size, channels), np.uint8)
    resized = 0
    for index, path in enumerate(paths):
        pixels[index], changed = _read(path, channels, size)
        resized += changed
    source = f"{folder} ({len(paths):,} images in {len(classes)} class folders"
    source += f", {resized:,} of them resized to {size[1]}x{size[0]})" if resized else ")"
    # The arrays are made here as NHWC; what the user says about the layout of arrays does not apply.
    fitted = fit_arrays({value.name: pixels}, labels, graph, replace(preprocessing, layout="nhwc"), source)
    return Fitted(replace(fitted.dataset, preprocessing=preprocessing), fitted.notes)


def _list(folder: Path, classes: Sequence[str]) -> tuple[list[Path], np.ndarray]:
    found = [path.name for path in _folders(folder)]
    unknown = [name for name in found if name not in classes]
    if unknown:
        raise DataError(f"{folder}: class folder {unknown[0]!r} is not in the training part")
    paths: list[Path] = []
    labels: list[int] = []
    for name in found:
        files = _files(folder / name)
        paths += files
        labels += [classes.index(name)] * len(files)
    if not paths:
        state = "its folders hold no images" if found else "there are no folders in it"
        raise DataError(
            f"{folder} is no folder of class folders of images: {state}",
            hint=f"lay images out as CLASS/NAME.png; known types are {', '.join(EXTENSIONS)}",
        )
    return paths, np.array(labels, np.int64)


def _wanted(value: Value, layout: str, first: Path) -> tuple[int, tuple[int, int]]:
    """Return the channel count and (height, width) that the model takes, those of the first image where it is free."""
    shape = value.shape or (None,) * 4
    channels, height, width = (shape[axis] for axis in ((1, 2, 3) if layout == "nchw" else (3, 1, 2)))
    if isinstance(channels, int) and channels not in _MODES:
        raise DataError(f"model input {value.name!r} has {channels} channels, images have 1, 3 or 4")
    with _open(first) as image:
        free_width, free_height = image.size
    return (
        channels if isinstance(channels, int) else 3,
        (height if isinstance(height, int) else free_height, width if isinstance(width, int) else free_width),
    )


def _open(path: Path) -> Image.Image:
    try:
        return Image.open(path)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise _broken(path, error) from error


def _broken(path: Path, error: Exception) -> DataError:
    return DataError(f"cannot read image {path}: {error}", hint="remove the file or replace it by an intact one")


def _read(path: Path, channels: int, size: tuple[int, int]) -> tuple[np.ndarray, bool]:
    """Return the pixels, uint8 ``[height, width, channels]``, and whether the image had to be resized."""
    with _open(path) as image:
        if image.mode in _WIDE_MODES:
            raise DataError(f"image {path} has more than 8 bits per channel", hint="convert it to 8 bits")
        try:
            converted = image.convert(_MODES[channels])
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise _broken(path, error) from error
    changed = converted.size != (size[1], size[0])
    if changed:
        converted = _fit_size(converted, size)
    return np.asarray(converted).reshape(*size, channels), changed


def _fit_size(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Scale until both sides are large enough, then crop around the centre."""
    height, width = size
    factor = max(width / image.width, height / image.height)
    scaled = (max(width, round(image.width * factor)), max(height, round(image.height * factor)))
    image = image.resize(scaled, Image.Resampling.BILINEAR)
    left, top = (scaled[0] - width) // 2, (scaled[1] - height) // 2
    return image.crop((left, top, left + width, top + height))
