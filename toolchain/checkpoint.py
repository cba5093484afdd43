"""Checkpoints: the state of a run in one safetensors file, which is there as a whole or not at all."""

import json
import os
import time
import zlib
from collections.abc import Callable, Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from toolchain.errors import CheckpointError

State = dict[str, Any]  # a tree of tensors and JSON values

KIND = "onnx-compress checkpoint 7"  # counts up when the tree changes
INTERVAL_S = 60.0  # at least, between two states within a phase
COST = 0.02  # part of the time that writing may take
SHOWN = 5  # differences that an error names
SHOWN_CHARACTERS = 24  # of each value


class Checkpoint:
    """Keeps one state of a run in a file, the latest.

    Tensors are safetensors entries under numbers. The header's metadata holds the rest as JSON: the tree, in which maps
    are lists of pairs (so that order and whole-number keys survive) and tensors are references; who wrote it; a
    checksum over everything. Nothing in the file is ever executed.

    Args:
        path: the file.
        identity: JSON values that say which run this is: of model, data, options.
        tell: is told, once, if a checkpoint cannot be written; the run goes on, and the last one stays.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any], tell: Callable[[str], None]) -> None:
        self.path = path
        self._identity = json.loads(json.dumps(identity))
        self._tell = tell
        self._partial = path.with_name(f"{path.name}.partial")
        self._written = -float("inf")
        self._cost_s = 0.0
        self._waiting = False
        self._failed = False

    def offer(self, make: Callable[[], State], boundary: bool = False) -> None:
        """Write the state if one is due: after the interval, or where a phase has ended, unless that cost too much.

        Args:
            make: returns the state; called only if it is written.
            boundary: whether a phase has ended.
        """
        self._waiting |= boundary
        pause = self._cost_s / COST
        started = time.monotonic()
        if started - self._written < (pause if self._waiting else max(pause, INTERVAL_S)):
            return
        try:
            self.write(make())
        except (OSError, SafetensorError) as error:
            self._partial.unlink(missing_ok=True)
            if not self._failed:
                self._tell(f"no checkpoint can be written to {self.path} ({error}); the run goes on without")
            self._failed = True
        self._written, self._waiting = time.monotonic(), False
        self._cost_s = self._written - started

    def write(self, state: State) -> None:
        """Replace what is in the file.

        Raises:
            OSError, SafetensorError: it cannot be written; what was there stays.
        """
        tensors = _Tensors()
        tree = json.dumps(_encode(state, tensors))
        checksum = str(_checksum(tree, tensors.by_name))
        metadata = {"kind": KIND, "identity": json.dumps(self._identity), "tree": tree, "checksum": checksum}
        save_file(tensors.by_name, self._partial, metadata)
        _flush(self._partial)  # else a power cut after the rename could leave an empty file under the final name
        self._partial.replace(self.path)

    def read(self) -> State:
        """Return the state in the file, its tensors on the CPU.

        Raises:
            CheckpointError: it is damaged, or of another run; the error names what differs.
        """
        try:
            with safe_open(self.path, framework="pt") as file:
                metadata = file.metadata() or {}
                check_kind(self.path, metadata)
                self._check_identity(json.loads(metadata["identity"]))
                # Copies, aligned as torch aligns its own: what torch computes may depend on that in the last bit.
                tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 - not a dict
            if metadata["checksum"] != str(_checksum(metadata["tree"], tensors)):
                raise _damaged(self.path, "its checksum does not fit")
            state: State = _decode(json.loads(metadata["tree"]), tensors)
        except (OSError, SafetensorError, ValueError, LookupError) as error:
            raise _damaged(self.path, str(error)) from error
        return state

    def remove(self) -> None:
        """Remove the file, and what an interrupted write may have left."""
        self.path.unlink(missing_ok=True)
        self._partial.unlink(missing_ok=True)

    def _check_identity(self, was: Mapping[str, Any]) -> None:
        found = differences(was, self._identity)
        if found:
            more = f"; and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
            raise CheckpointError(
                f"the checkpoint {self.path} is of another run: {'; '.join(found[:SHOWN])}{more}",
                hint="repeat the options, model and data that it began with, or leave --resume out to start over",
            )


def check_checkpoint(path: Path) -> None:
    """Check that ``path`` is a checkpoint of this version; a file of somebody else is never overwritten.

    Raises:
        CheckpointError: it is not, or it is damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            check_kind(path, file.metadata() or {})
    except (OSError, SafetensorError) as error:
        raise _damaged(path, str(error)) from error


def check_kind(path: Path, metadata: Mapping[str, str]) -> None:
    """Check that the file says of itself that it is a checkpoint.

    Raises:
        CheckpointError: it does not.
    """
    if metadata.get("kind") != KIND:
        raise CheckpointError(
            f"{path} is not a checkpoint of this version of compress",
            hint="move it away, or name another output with -o",
        )


def differences(was: object, now: object, key: str = "") -> list[str]:
    """Return a sentence per value that differs between two JSON trees, by its dotted key."""
    if isinstance(was, dict) and isinstance(now, dict):
        names = [(name, f"{key}.{name}" if key else str(name)) for name in dict.fromkeys((*was, *now))]
        return [text for name, path in names for text in differences(was.get(name), now.get(name), path)]
    if isinstance(was, list) and isinstance(now, list):
        pairs = enumerate(zip_longest(was, now))
        return [text for index, (old, new) in pairs for text in differences(old, new, f"{key}[{index}]")]
    return [] if was == now else [f"{key} was {_shown(was)} and is {_shown(now)}"]


def _shown(value: object) -> str:
    text = "nothing" if value is None else json.dumps(value)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[: SHOWN_CHARACTERS - 3]}..."


class _Tensors:
    """The tensors of a tree under the numbers that it refers to them by; one that occurs twice is written once."""

    def __init__(self) -> None:
        self.by_name: dict[str, Tensor] = {}
        self._names: dict[tuple[object, ...], str] = {}
        self._storages: set[int] = set()

    def name(self, tensor: Tensor) -> str:
        """Return the number of ``tensor``."""
        key = (tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride(), tensor.device)
        if key not in self._names:
            name = self._names[key] = str(len(self._names))
            storage = tensor.untyped_storage()
            whole = storage.nbytes() == tensor.nbytes and storage.data_ptr() not in self._storages
            self._storages.add(storage.data_ptr())
            value = tensor.detach().cpu().contiguous()
            self.by_name[name] = value if whole else value.clone()  # safetensors refuses memory that is shared
        return self._names[key]


def _encode(value: object, tensors: _Tensors) -> object:
    if isinstance(value, Tensor):
        return {"tensor": tensors.name(value)}
    if isinstance(value, Mapping):
        return {"map": [[key, _encode(item, tensors)] for key, item in value.items()]}
    return [_encode(item, tensors) for item in value] if isinstance(value, list) else value


def _decode(value: Any, tensors: Mapping[str, Tensor]) -> Any:  # noqa: ANN401 - what the tree holds
    if isinstance(value, list):
        return [_decode(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    if "tensor" in value:
        return tensors[value["tensor"]]
    return {key: _decode(item, tensors) for key, item in value["map"]}


def _checksum(tree: str, tensors: Mapping[str, Tensor]) -> int:
    total = zlib.crc32(tree.encode())
    for name in sorted(tensors):
        total = zlib.crc32(tensors[name].reshape(-1).view(torch.uint8).numpy().data, total)
    return total


def _flush(path: Path) -> None:
    """Wait until the file is on the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _damaged(path: Path, reason: str) -> CheckpointError:
    return CheckpointError(
        f"the checkpoint {path} is damaged: {reason}", hint=f"remove it and start over, without --resume: rm {path}"
    )
