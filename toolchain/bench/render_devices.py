"""Other machines as text: what they are, and how far their outputs are from this one's."""

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from toolchain import units
from toolchain.bench.history import case_name
from toolchain.bench.render import WIDTH, new_table, row_cells
from toolchain.bench.rows import HERE
from toolchain.console import as_text, printable


def render_devices(document: Mapping[str, Any], colour: bool = False, width: int = WIDTH) -> str:
    """Return what a bench document says of machines other than this one; empty where it knows none.

    Args:
        document: from ``bench_on`` or ``read_by_hand``.
        colour: emphasise with ANSI codes; without them the text is plain.
        width: characters per line.
    """
    parts: list[RenderableType] = []
    for host, environment in document["environments"].items():
        if host != HERE:
            parts += ["", Text(printable(host), style="bold"), Text(printable(_facts(environment)))]
            parts += [part for case in document["cases"] if case["host"] == host for part in _outputs(case)]
    return as_text(Group(*parts), colour, width) if parts else ""


def _facts(environment: Mapping[str, Any]) -> str:
    cores, hot = environment["cores"], environment["temperature_c"]
    facts = [
        f"{environment['cpu']}, {cores} core{'s' * (cores > 1)}",
        f"governor {environment['governor'] or 'unknown'}",
    ]
    after = environment.get("temperature_after_c")
    warmed = f" before and {after:.0f} °C after" if after is not None else ""
    facts.append("temperature unknown" if hot is None else f"{hot:.0f} °C{warmed}")
    facts += [f"{name} {environment[key]}" for name, key in (("onnxruntime", "onnxruntime"), ("Python", "python"))]
    return ", ".join([*facts, environment["platform"]])


def _outputs(case: Mapping[str, Any]) -> Iterator[RenderableType]:
    """Yield the table of a case's outputs, where both machines have them."""
    table = new_table("outputs there and here", "largest difference", "of the largest value", "same top-1")
    for model in case["models"]:
        for output in model.get("differences", ()):
            name = f"{model['name']}: {output['name']}"
            if output["objection"]:
                table.add_row(*row_cells(name, output["objection"], "", ""))
                continue
            relative, top1 = output["max_relative"], output["top1_agreement"]
            cells = [
                units.scientific(output["max_abs"]) if output["max_abs"] else "none",
                "" if relative is None or not output["max_abs"] else units.scientific(relative),
                "" if top1 is None else units.percent(top1),
            ]
            table.add_row(*row_cells(name, *cells))
    if table.row_count:
        yield from ("", Text(printable(case_name(case)), style="dim"), table)
