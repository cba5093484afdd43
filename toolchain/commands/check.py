"""``compress check``: judges a report by gates, for pipelines."""
# ruff: noqa: PLC0415 - numpy and onnxruntime take a while to import

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from toolchain.commands.reported import reported
from toolchain.commands.thresholds import with_gates
from toolchain.errors import RecipeError, ReportError
from toolchain.gates.limits import LIMITS, Gates, option_name

if TYPE_CHECKING:
    from toolchain.gates.judge import Outcome

REPORT_NAME = "report.json"
SUMMARY = "GITHUB_STEP_SUMMARY"  # GitHub's runner shows what a step appends to the file of this name


@click.command()
@click.argument("report", type=click.Path(path_type=Path))
@with_gates
@click.option("--device", metavar="NAME", help="Judge speed and memory on this host, device or provider only.")
@click.option("--model", type=click.Path(dir_okay=False, path_type=Path), help="Fail if REPORT is of another file.")
@click.option(
    "--recipe", type=click.Path(dir_okay=False, path_type=Path), help="TOML file with [gates]; options win over it."
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "github", "junit"]),
    default="text",
    show_default=True,
    help="Output.",
)
def check(report: Path, gates: Gates, device: str | None, model: Path | None, recipe: Path | None, form: str) -> None:
    """Judge a report by thresholds, for pipelines.

    REPORT is a report.json or its folder. Exits with 1 if a threshold is missed, or its figure was not measured.
    """
    gates = dataclasses.replace(gates, device=device)
    if recipe is None and not gates.asked:
        known = ", ".join(f"--{option_name(limit)}" for limit in LIMITS)
        raise click.UsageError(f"say what to check: {known}, or --recipe with [gates]")
    with reported():
        from toolchain.gates.judge import judge

        if recipe is not None:
            from toolchain.recipe import read_recipe

            gates = gates.over(read_recipe(recipe).gates)
            if not gates.asked:
                raise RecipeError(f"{recipe} has no thresholds", hint='add [gates] with max_size = "2MB"')
        document = _read(report, model)
        outcomes = judge(document, gates)
        click.echo(_rendered(outcomes, document, form))
    if not all(outcome.passed for outcome in outcomes):
        raise click.exceptions.Exit(1)


def _read(path: Path, model: Path | None) -> Mapping[str, Any]:
    """Return the report in a file or a folder, once it is that of ``model``."""
    from toolchain.measure.schema import read_report

    report = read_report(path / REPORT_NAME if path.is_dir() else path)
    if model is not None:
        from toolchain.files import sha256

        try:
            found = sha256(model)
        except OSError as error:
            raise ReportError(f"cannot read {model}: {error.strerror}") from error
        if found != report["compressed"]["sha256"]:
            raise ReportError(
                f"{path} is not of {model}: it is of a file with SHA-256 {report['compressed']['sha256'][:12]}..., "
                f"and this one has {found[:12]}...",
                hint="compress again, or check the model and the report that were made together",
            )
    return report


def _rendered(outcomes: Sequence["Outcome"], report: Mapping[str, Any], form: str) -> str:
    from toolchain.gates.render import github_summary, render_github, render_junit, render_text

    if form == "junit":
        return render_junit(outcomes, report)
    if form == "text":
        return render_text(outcomes)
    if os.environ.get(SUMMARY):
        try:
            with Path(os.environ[SUMMARY]).open("a", encoding="utf-8") as file:
                file.write(github_summary(outcomes, report))
        except OSError as error:
            raise ReportError(f"cannot write {SUMMARY} {error.filename}: {error.strerror}") from error
    return render_github(outcomes)
