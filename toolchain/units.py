"""Figures as text, the same in the terminal, in the verdict and on the page."""

import math

BYTE_UNITS = ((1e9, "GB"), (1e6, "MB"), (1e3, "KB"))


def significant(value: float, digits: int = 3) -> str:
    """Return ``value`` with ``digits`` significant digits, thousands separated, never in exponent form."""
    if value == 0:
        return "0"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:,.{decimals}f}"


def bytes_text(count: float) -> str:
    """Return a byte count in decimal units: ``1.73 MB``."""
    for size, unit in BYTE_UNITS:
        if count >= size:
            return f"{significant(count / size)} {unit}"
    return f"{count:,.0f} B"


def milliseconds(value: float) -> str:
    """Return a time given in milliseconds: ``0.123 ms``, ``1.20 s`` from one second on."""
    return f"{significant(value / 1e3)} s" if value >= 1e3 else f"{significant(value)} ms"


def times(ratio: float) -> str:
    """Return a factor: ``36.0x``."""
    return f"{significant(ratio)}x"


def smaller(ratio: float) -> str:
    """Return what a ratio before / after says: ``36.0x smaller``, ``1.20x larger``."""
    return f"{times(ratio)} smaller" if ratio >= 1 else f"{times(1 / ratio)} larger"


def signed(value: float) -> str:
    """Return a weight or the end of a range: ``-0.31``, ``1.2e-05``."""
    return f"{value:.2g}"


def percent(share: float) -> str:
    """Return a share of one in percent with two decimals: ``99.25 %``."""
    return f"{100 * share:.2f} %"


def points(share: float) -> str:
    """Return a difference of two shares in percentage points, without its sign: ``0.19 points``."""
    return f"{abs(100 * share):.2f} points"


def scientific(value: float) -> str:
    """Return an error or a residual: ``1.2e-07``, plain where that is shorter."""
    return "0" if value == 0 else f"{value:.2g}"


def short(value: float) -> str:
    """Return a tick label of few characters: ``1e-4``, ``0.5``, ``2,000``, ``20 k``, ``3 M``."""
    if value >= 1e6:
        return f"{value / 1e6:g} M"
    if value >= 1e4:
        return f"{value / 1e3:g} k"
    if value >= 100 or value == 0:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value >= 0.01 else f"{value:.0e}".replace("e-0", "e-")
