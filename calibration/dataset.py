"""Samples as the user has them, and how they become what the model is fed."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Literal

import numpy as np

from toolchain.errors import DataError

Layout = Literal["auto", "nchw", "nhwc"]
Kind = Literal["task", "unlabelled", "synthetic"]

# Rows converted at a time where a whole data set is prepared: bounds the temporary memory.
_CHUNK = 1024


@dataclass(frozen=True, eq=False)
class Batch:
    """Samples of model-ready values.

    Attributes:
        inputs: arrays by input name, each ``[size, ...]``.
        labels: int64 ``[size]`` or None.
        sets: whether every sample is a whole set of inputs, which is fed by itself.
        rows: int64 ``[size]`` numbers that tell sample and variant where training drew them, or None.
    """

    inputs: dict[str, np.ndarray]
    labels: np.ndarray | None
    sets: bool = False
    rows: np.ndarray | None = None

    def __len__(self) -> int:
        return len(next(iter(self.inputs.values())))

    @property
    def feeds(self) -> dict[str, np.ndarray]:
        """What the model is fed: the inputs; of a set, which must be the only one, without the sample dimension."""
        return {name: array.squeeze(0) for name, array in self.inputs.items()} if self.sets else self.inputs

    def portions(self, size: int) -> Iterator["Batch"]:
        """Yield all samples in order, ``size`` at a time; the last portion may be smaller."""
        if size >= len(self):
            yield self
            return
        for start in range(0, len(self), size):
            part = slice(start, start + size)
            inputs = {name: array[part] for name, array in self.inputs.items()}
            labels, rows = (None if array is None else array[part] for array in (self.labels, self.rows))
            yield Batch(inputs, labels, self.sets, rows)


@dataclass(frozen=True)
class Preprocessing:
    """What turns the user's values into the model's: ``(x * scale - mean) / std`` per channel.

    Attributes:
        scale: factor on the raw values, such as 1/255 for pixels.
        mean: per channel, in units after scaling; one value for all channels; empty for none.
        std: as ``mean``; not zero.
        layout: where the channels of four-dimensional *data* are; "auto" decides by what fits the model.

    Raises:
        DataError: a value is not finite, or a scale or standard deviation is zero.
    """

    scale: float = 1.0
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    layout: Layout = "auto"

    def __post_init__(self) -> None:
        """Check the values."""
        for name, values in (("scale", (self.scale,)), ("mean", self.mean), ("std", self.std)):
            if not np.isfinite(values).all():
                raise DataError(f"--{name} must be finite, got {', '.join(map(str, values))}")
        if self.scale == 0:
            raise DataError("--scale must not be 0", hint="pixels 0..255 become 0..1 by --scale 0.00392156862745098")
        if any(value <= 0 for value in self.std):
            raise DataError(
                f"--std must be positive, got {', '.join(map(str, self.std))}",
                hint="give the standard deviation of each channel in the units that --scale leaves",
            )
        if self.mean and self.std and len(self.mean) != len(self.std) and 1 not in (len(self.mean), len(self.std)):
            raise DataError(f"--mean has {len(self.mean)} values and --std {len(self.std)}, they must be as many")

    @property
    def is_identity(self) -> bool:
        """Whether values pass unchanged."""
        return self.scale == 1 and not any(self.mean) and all(value == 1 for value in self.std)

    def apply(self, array: np.ndarray, channel_axis: int | None = 1) -> np.ndarray:
        """Return the float32 values that the model is fed, shaped as ``array``.

        Args:
            array: ``[N, ...]`` raw values of any number type.
            channel_axis: the dimension that ``mean`` and ``std`` run along; None where there is none.
        """
        values = array.astype(np.float32, order="C")
        if self.is_identity:
            return values
        std = np.array(self.std or (1.0,))
        factor, offset = self.scale / std, np.array(self.mean or (0.0,)) / std
        if max(factor.size, offset.size) > 1 and channel_axis is not None:
            shape = [1] * array.ndim
            shape[channel_axis] = -1
            factor, offset = factor.reshape(shape), offset.reshape(shape)
        values *= factor.astype(np.float32)
        if self.mean:
            values -= offset.astype(np.float32)
        return values

    def to_json(self) -> dict[str, object]:
        """Return the options as the report records them."""
        return {"scale": self.scale, "mean": list(self.mean), "std": list(self.std), "layout": self.layout}


@dataclass(frozen=True)
class Feed:
    """How one raw array becomes one model input.

    Attributes:
        dtype: what the model wants.
        channel_axis: the dimension of the array that ``mean`` and ``std`` run along, or None.
        normalise: whether the preprocessing applies; never for integers, such as token ids.
    """

    dtype: np.dtype
    channel_axis: int | None = None
    normalise: bool = False


def default_feed(array: np.ndarray) -> Feed:
    """Return how an array is fed where nobody looked at the model: bytes and floats as images, the rest as it is."""
    if array.dtype == np.uint8 or array.dtype.kind == "f":
        return Feed(np.dtype(np.float32), 1 if array.ndim > 1 else None, normalise=True)
    return Feed(array.dtype)


@dataclass(frozen=True, eq=False)
class Dataset:
    """Samples in memory as they came, so bytes stay bytes; batches are prepared when they are asked for.

    Attributes:
        inputs: a raw array ``[N, ...]`` per model input, dimensions already in the model's order.
        labels: int64 ``[N]`` class indices, or None.
        preprocessing: applied to every batch, where a feed says so.
        kind: what a figure measured on it means.
        source: a phrase for the report that says where the samples came from.
        feeds: by input name; ``default_feed`` decides for an input that is not listed.
        sets: whether every sample is a whole set of inputs, each of the model's own shape.
    """

    inputs: Mapping[str, np.ndarray]
    labels: np.ndarray | None
    preprocessing: Preprocessing
    kind: Kind
    source: str
    feeds: Mapping[str, Feed] = field(default_factory=lambda: MappingProxyType({}))
    sets: bool = False

    def __post_init__(self) -> None:
        """Check that all arrays have one length."""
        lengths = {name: len(array) for name, array in self.inputs.items()}
        if self.labels is not None:
            lengths["labels"] = len(self.labels)
        if len(set(lengths.values())) > 1:
            found = ", ".join(f"{name!r} has {length:,}" for name, length in lengths.items())
            raise DataError(
                f"{self.source}: arrays differ in their number of samples: {found}",
                hint="the first dimension of every array counts samples",
            )
        if not self.inputs or not next(iter(lengths.values())):
            raise DataError(f"{self.source}: there are no samples")

    def __len__(self) -> int:
        return len(next(iter(self.inputs.values())))

    def batch(self, index: np.ndarray) -> Batch:
        """Return the model-ready samples at the integer positions ``index``, ``[size]``."""
        inputs = {name: self._prepare(name, array[index]) for name, array in self.inputs.items()}
        return Batch(inputs, None if self.labels is None else self.labels[index], self.sets)

    def batches(self, size: int) -> Iterator[Batch]:
        """Yield all samples in order, ``size`` at a time; the last batch may be smaller."""
        for start in range(0, len(self), size):
            yield self.batch(np.arange(start, min(start + size, len(self))))

    def subset(self, index: np.ndarray) -> "Dataset":
        """Return the samples at the integer positions ``index``, in that order."""
        labels = None if self.labels is None else self.labels[index]
        return replace(self, inputs={name: array[index] for name, array in self.inputs.items()}, labels=labels)

    def preload(self, limit: int) -> "Dataset":
        """Return the same samples already prepared, or this data set where they would take over ``limit`` bytes."""
        feeds = {name: self._feed(name) for name in self.inputs}
        if sum(array.size * feeds[name].dtype.itemsize for name, array in self.inputs.items()) > limit:
            return self
        prepared = {name: np.empty(array.shape, feeds[name].dtype) for name, array in self.inputs.items()}
        for start in range(0, len(self), _CHUNK):
            for name, array in self.inputs.items():
                prepared[name][start : start + _CHUNK] = self._prepare(name, array[start : start + _CHUNK])
        return replace(
            self, inputs=prepared, feeds={name: replace(feed, normalise=False) for name, feed in feeds.items()}
        )

    def _feed(self, name: str) -> Feed:
        return self.feeds.get(name) or default_feed(self.inputs[name])

    def _prepare(self, name: str, raw: np.ndarray) -> np.ndarray:
        feed = self._feed(name)
        if feed.normalise:
            raw = self.preprocessing.apply(raw, feed.channel_axis)
        return np.ascontiguousarray(raw, feed.dtype)


@dataclass(frozen=True, eq=False)
class LoadedData:
    """What a data source holds.

    Attributes:
        train: all samples, or the training part where the source tells parts apart.
        test: the source's own test part, or None.
        notes: sentences that the user should read, such as a likely missing ``--scale``.
    """

    train: Dataset
    test: Dataset | None = None
    notes: tuple[str, ...] = ()
