"""What is asked of a report, from options and from ``[gates]`` of a recipe. Imports nothing heavy."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from toolchain.errors import RecipeError, nearest
from toolchain.gates.amounts import UNITS


def _limit(unit: str, says: str) -> float | None:
    """Return a field that holds a threshold, None where it is not asked for."""
    found: float | None = field(default=None, metadata={"unit": unit, "help": says})
    return found


@dataclass(frozen=True)
class Gates:
    """Thresholds, None where nothing is asked; the name of a field is that of its option and of its key in a recipe.

    Attributes:
        max_drop: percentage points of accuracy lost, or of agreement where the data have no labels.
        min_accuracy: percent.
        max_size: bytes of the compressed file.
        min_ratio: bytes of the original file over those of the compressed one.
        min_speedup: median time of the original over that of the compressed one.
        max_latency: milliseconds of the median run.
        max_memory: bytes of resident memory at the peak, beyond those of the runtime without a model.
        device: whose latency, speedup and memory are meant; None means every device of the report.
    """

    max_drop: float | None = _limit("points", "Lose at most so many points of accuracy.")
    min_accuracy: float | None = _limit("percent", "Be right at least so often: 98% or 0.98.")
    max_size: float | None = _limit("bytes", "File of at most 2MB, 500KB, 1.5MiB.")
    min_ratio: float | None = _limit("factor", "File at least so many times smaller: 10x.")
    min_speedup: float | None = _limit("factor", "Surely at least so many times as fast: 2x.")
    max_latency: float | None = _limit("ms", "Median run surely within 5ms, 0.2s.")
    max_memory: float | None = _limit("bytes", "Memory of at most 300MB at the peak, beyond the runtime's own.")
    device: str | None = None

    @property
    def asked(self) -> dict[str, float]:
        """The thresholds that are asked for, by field name."""
        values = {limit: getattr(self, limit) for limit in LIMITS}
        return {limit: value for limit, value in values.items() if value is not None}

    def over(self, others: "Gates") -> "Gates":
        """Return ``others`` with everything that is asked for here in its place."""
        device = others.device if self.device is None else self.device
        return dataclasses.replace(others, **self.asked, device=device)


LIMITS: Mapping[str, dataclasses.Field[float | None]] = {
    item.name: item for item in dataclasses.fields(Gates) if "unit" in item.metadata
}


def option_name(limit: str) -> str:
    """Return how the command line calls it: ``max-drop`` for ``max_drop``."""
    return limit.replace("_", "-")


def parse_limit(limit: str, text: str) -> float:
    """Return the threshold that ``text`` stands for.

    Raises:
        RecipeError: it stands for none; the message names the limit.
    """
    try:
        return UNITS[LIMITS[limit].metadata["unit"]].parse(text)
    except RecipeError as error:
        raise RecipeError(f"{option_name(limit)}: {error}", error.hint) from error


def read_gates(table: Mapping[str, object], where: str) -> Gates:
    """Return the gates of a recipe's ``[gates]``, or of a mapping with the same keys.

    Args:
        table: thresholds as texts, or as numbers where they need no unit; and ``device``.
        where: named in errors.

    Raises:
        RecipeError: a key is not known, or a value is not understood.
    """
    found: dict[str, Any] = {}
    device = table.get("device")
    if device is not None and (not isinstance(device, str) or not device.strip()):
        raise RecipeError(f"{where}: device: got {device!r}, expected a name", hint='write device = "pi"')
    for key, value in table.items():
        if key == "device":
            continue
        if key not in LIMITS:
            raise RecipeError(f"{where}: unknown key {key!r}; {nearest(key, [*LIMITS, 'device'])}")
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise RecipeError(f'{where}: {key}: got {value!r}, expected a number or a text such as {key} = "2MB"')
        text = value if isinstance(value, str) else format(Decimal(str(value)), "f")
        try:
            found[key] = parse_limit(key, text)
        except RecipeError as error:
            raise RecipeError(f"{where}: {error}", error.hint) from error
    return dataclasses.replace(Gates(device=device), **found)
