"""What another machine measured, checked before anything else looks at it.

Nothing that comes from there is trusted: JSON has the probe's format and finite numbers alone, texts have nothing in
them that a terminal would obey, and arrays are numbers that are no larger than what was sent.
"""

import io
import json
import math
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from toolchain.bench.complaints import printable
from toolchain.bench.probe import Job
from toolchain.errors import HostError
from toolchain.validation import load_schema, misfit

SCHEMA = load_schema("toolchain.bench", "result.schema.json")

REASON = 300  # characters of what an exception says


@contextmanager
def understood(name: str) -> Iterator[None]:
    """Make of an answer that is no result of the probe an error.

    Args:
        name: of the machine or the file that it comes from.

    Raises:
        HostError: what came from there is something else.
    """
    try:
        yield
    except (ValueError, LookupError, TypeError, ArithmeticError, EOFError, MemoryError, RecursionError) as error:
        raise HostError(f"{name} sent what is no result of a measurement: {reason(error)}", "measure again") from error
    except zipfile.BadZipFile as error:
        raise HostError(f"{name} sent no arrays: {error}", "measure again") from error


def reason(error: BaseException) -> str:
    """Return in a few words why something could not be understood.

    An exception's ``repr`` would show all the bytes that are no text.
    """
    if isinstance(error, UnicodeDecodeError):
        return "it is no text"
    said = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) and error.args else str(error)
    return printable(said)[:REASON] or type(error).__name__


def read_json(data: bytes) -> Any:  # noqa: ANN401 - whatever was sent
    """Return what JSON holds.

    Raises:
        ValueError: it is none, or has a number that is not finite.
    """
    return json.loads(data, parse_constant=_finite, parse_float=_finite)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is no finite number")
    return value


def check_environment(document: object) -> dict[str, Any]:
    """Return the probe's ``environment``, its texts made printable.

    Raises:
        ValueError: it is something else.
    """
    return _checked({"$ref": "#/$defs/environment", "$defs": SCHEMA["$defs"]}, document)


def check_result(document: object, job: Job) -> dict[str, Any]:
    """Return the probe's result, its texts made printable.

    Args:
        document: what was sent.
        job: what was asked for; the result must be of the same cases and models, in the same order.

    Raises:
        ValueError: it does not follow the schema, or is of another job.
    """
    result = _checked(SCHEMA, document)
    asked = [(case.provider, case.batch, case.transfers) for case in job.cases]
    found = [(case["provider"], case["batch"], case["transfers"]) for case in result["cases"]]
    if found != asked:
        raise ValueError(f"it is of the cases {found}, not of {asked}")
    for case in result["cases"]:
        if len(case["models"]) != len(job.models):
            raise ValueError(f"it is of {len(case['models'])} models, not of {len(job.models)}")
        if case["preempted"] is not None and not case["timing_s"]:
            raise ValueError("it counts interruptions of no time at all")
        if case["timed"]:
            for times in (case["loads_ms"], *case["rounds_ms"]):
                _check_times(times, len(case["timed"]))
    return result


def _check_times(times: object, models: int) -> None:
    """Check milliseconds ``[turns][models]``, which are too many for a validator that takes them one by one."""
    found = np.asarray(times)
    if found.dtype.kind not in "if" or found.ndim != 2 or found.shape[1] != models or not (found > 0).all():
        raise ValueError(f"there are times that are no milliseconds of {models} models")


def _checked(schema: Mapping[str, Any], document: object) -> dict[str, Any]:
    place, why = misfit(schema, document)
    if why:
        raise ValueError(f"{place}: {why}" if place else why)
    cleaned: dict[str, Any] = _cleaned(document)
    return cleaned


def _cleaned(value: Any) -> Any:  # noqa: ANN401 - any part of a JSON document
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, list):
        return [_cleaned(item) for item in value]
    return {printable(key): _cleaned(item) for key, item in value.items()} if isinstance(value, dict) else value


def read_arrays(data: bytes) -> list[np.ndarray]:
    """Return ``arr_0``, ``arr_1``, ... of an ``.npz`` as ``numpy.savez`` writes it.

    Raises:
        ValueError: an array is compressed, so that little data could unpack to much, or holds objects.
        zipfile.BadZipFile: it is no ``.npz``.
    """
    with zipfile.ZipFile(io.BytesIO(data)) as packed:
        if any(item.compress_type != zipfile.ZIP_STORED for item in packed.infolist()):
            raise ValueError("arrays are compressed, which the probe does not do")
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        return [arrays[f"arr_{number}"] for number in range(len(arrays.files))]
