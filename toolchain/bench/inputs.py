"""What models are fed while they are measured: samples from a file, or values made from the model's signature."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from calibration.dataset import Preprocessing
from calibration.files import load_npy, load_npz
from calibration.signature import Signal, read_signature
from toolchain.errors import DataError, ModelError, nearest
from toolchain.graph import Graph, Value

Shape = tuple[int, ...]
Feeds = dict[str, np.ndarray]

SEED = 0  # of made inputs
SHAPE_HINT = "give the whole shape, such as --shape image=1x3x224x224, or samples with --inputs file.npz"
_SHAPE = re.compile(r"(?P<name>.+)=(?P<dims>\d+(x\d+)*)?")


@dataclass(frozen=True)
class Prepared:
    """The inputs of one batch size.

    Attributes:
        batch: samples.
        feeds: arrays by input name.
        notes: sentences about what was assumed.
    """

    batch: int
    feeds: Feeds
    notes: tuple[str, ...]


def parse_shape(text: str) -> tuple[str, Shape]:
    """Return input name and dimensions of ``name=1x3x224x224``; of ``name=`` a scalar's.

    Raises:
        DataError: it is something else, or a dimension is 0.
    """
    found = _SHAPE.fullmatch(text)
    dims = tuple(int(dim) for dim in (found["dims"] or "").split("x") if dim) if found else ()
    if found is None or 0 in dims:
        raise DataError(f"{text!r} is not a shape", hint="write name=1x3x224x224, with every dimension 1 or more")
    return found["name"], dims


def prepare(graph: Graph, batch: int | None, shapes: Mapping[str, Shape], source: Path | None, where: str) -> Prepared:
    """Return what to feed ``graph``.

    Args:
        graph: the model.
        batch: samples at a time; None takes what the model or the shapes fix, or 1.
        shapes: of inputs, by name.
        source: an ``.npz`` or ``.npy`` file of samples, of which the first are taken; None makes random ones.
        where: the model's file, for errors.

    Raises:
        DataError: batch, shapes or samples do not fit the model, or its signature says too little.
    """
    sized = _sized(graph, batch, shapes, where)
    if source is not None:
        return _from_file(sized, source, where)
    try:
        signals = read_signature(sized)
    except DataError as error:
        raise DataError(f"{where}: {error}", hint=SHAPE_HINT) from error
    rng = np.random.default_rng(SEED)
    count = sized.batch_size or 1
    feeds = {signal.name: _draw(signal, (() if sized.takes_sets else (count,)), rng) for signal in signals}
    assumed = [
        f"input {signal.name!r}: assumed {', '.join(signal.free)}; --shape sets it" for signal in signals if signal.free
    ]
    return Prepared(count, feeds, tuple(assumed))


def check_feeds(feeds: Feeds, graph: Graph, where: str, first: str) -> None:
    """Check that what was prepared for one model fits another.

    Args:
        feeds: arrays by input name.
        graph: the other model.
        where: its file, for errors.
        first: the file of the model that they were prepared for.

    Raises:
        DataError: the inputs have other names, types or shapes.
    """
    wanted = {value.name: value for value in graph.inputs}
    if wanted.keys() != feeds.keys():
        raise DataError(
            f"{where} takes the inputs {_listed(wanted)}, {first} takes {_listed(feeds)}",
            hint="models are compared on the same inputs; measure models with other inputs by themselves",
        )
    for name, array in feeds.items():
        value = wanted[name]
        if value.dtype != array.dtype or not _fits(value, array.shape):
            raise DataError(
                f"input {name!r} of {where} is {_described(value)}, what {first} is fed is "
                f"{array.dtype}{list(array.shape)}",
                hint="models are compared on the same inputs; give a --shape or --batch that all of them take",
            )


def _sized(graph: Graph, batch: int | None, shapes: Mapping[str, Shape], where: str) -> Graph:
    """Return the graph with the dimensions that are asked for in place of open ones."""
    names = [value.name for value in graph.inputs]
    symbols: dict[str, int] = {}
    for name, shape in shapes.items():
        if name not in names:
            raise DataError(f"--shape {name}: {where} has no such input", hint=nearest(name, names))
        value = graph.inputs[names.index(name)]
        if not _fits(value, shape):
            raise DataError(
                f"--shape {name}={'x'.join(map(str, shape))} does not fit {where}, whose input is {_described(value)}",
                hint="keep the number of dimensions, and those that are fixed",
            )
        for dim, size in zip(value.shape or (), shape, strict=False):
            if isinstance(dim, str) and symbols.setdefault(dim, size) != size:
                raise DataError(f"--shape gives dimension {dim!r} as {symbols[dim]} and as {size}", hint=SHAPE_HINT)
    if batch is not None:
        _check_batch(graph, batch, where)
    inputs = [_with_dims(value, shapes.get(value.name), symbols) for value in graph.inputs]
    if batch is not None and not graph.takes_sets:
        inputs = [replace(value, shape=(batch, *value.shape[1:])) if value.shape else value for value in inputs]
    return replace(graph, inputs=tuple(inputs))


def _check_batch(graph: Graph, batch: int, where: str) -> None:
    fixed = graph.batch_size
    if fixed is None or fixed == batch:
        return
    why = "its inputs do not all begin with the batch" if graph.takes_sets else f"its batch is fixed to {fixed}"
    hint = "give the whole shapes with --shape" if graph.takes_sets else "export the model with an open first dimension"
    raise DataError(f"--batch {batch}: {where} cannot run it, {why}", hint=hint)


def _with_dims(value: Value, shape: Shape | None, symbols: Mapping[str, int]) -> Value:
    if shape is not None:
        return replace(value, shape=shape)
    if value.shape is None:
        return value
    return replace(value, shape=tuple(symbols.get(dim, dim) if isinstance(dim, str) else dim for dim in value.shape))


def _fits(value: Value, shape: Sequence[int]) -> bool:
    if value.shape is None:
        return True
    return len(value.shape) == len(shape) and all(
        not isinstance(dim, int) or dim == size for dim, size in zip(value.shape, shape, strict=True)
    )


def _described(value: Value) -> str:
    dims = "of any shape" if value.shape is None else "[" + ", ".join(str(dim or "?") for dim in value.shape) + "]"
    return f"{value.dtype}{dims}"


def _listed(names: Mapping[str, object]) -> str:
    return ", ".join(map(repr, names)) or "none"


def _from_file(graph: Graph, source: Path, where: str) -> Prepared:
    loaders = {".npz": load_npz, ".npy": load_npy}
    if source.suffix not in loaders:
        raise DataError(f"--inputs {source} is neither .npz nor .npy", hint="save arrays with numpy.savez")
    if not source.is_file():
        raise DataError(f"--inputs {source}: there is no such file")
    try:
        loaded = loaders[source.suffix](source, graph, Preprocessing())
    except ModelError as error:
        raise DataError(f"--inputs {source} does not fit {where}: {error}", hint=error.hint) from error
    data, count = loaded.test or loaded.train, graph.batch_size or 1
    if len(data) < count:
        raise DataError(f"--inputs {source} holds {len(data)} samples, {count} are to run at a time")
    return Prepared(count, data.batch(np.arange(count)).feeds, ())


def _draw(signal: Signal, leading: Shape, rng: np.random.Generator) -> np.ndarray:
    """Return values ``[*leading, *signal.sample]`` that no table is too small for."""
    values: np.ndarray | float
    shape = () if signal.meaning == "scalar" else (*leading, *signal.sample)
    if signal.meaning == "mask":  # a valid part of random length, at least half, then padding
        size = shape[-1] if shape else 1
        lengths = rng.integers((size + 1) // 2, size + 1, (*shape[:-1], 1))
        values = np.broadcast_to(np.arange(size) < lengths, shape)
    elif signal.dtype.kind == "f":
        values = rng.random(shape) if signal.meaning == "scalar" else rng.standard_normal(shape, np.float32)
    elif signal.meaning == "image":
        values = rng.integers(0, 256, shape)
    else:
        values = rng.integers(0, signal.high, shape)
    return np.array(values, signal.dtype, order="C")
