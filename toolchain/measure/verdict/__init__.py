"""What the figures mean, in sentences: only from what is in the report, good news and bad alike."""

from collections.abc import Callable, Iterator

from toolchain.measure.verdict import losses, speed
from toolchain.measure.verdict.findings import Finding, Report, how_run, short_provider
from toolchain.measure.verdict.losses import real_accuracy_missing
from toolchain.measure.verdict.speed import is_faster, is_overhead

__all__ = [
    "Finding",
    "Report",
    "how_run",
    "is_faster",
    "is_overhead",
    "real_accuracy_missing",
    "short_provider",
    "verdict_section",
]

RULES: tuple[Callable[[Report], Iterator[Finding]], ...] = (
    losses.unmeasured_accuracy,
    losses.size,
    losses.accuracy,
    losses.agreement,
    speed.latency,
    speed.kernels_left_off,
    speed.untouched_time,
    speed.load,
    losses.gzip,
)


def verdict_section(report: Report) -> list[Finding]:
    """Return the findings ``{claim, why, hint}`` on a report's measured sections; a hint may be empty."""
    return [found for rule in RULES for found in rule(report)]
