"""What a command prints when a model is compressed."""

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from toolchain.pipeline import CompressResult


def summarise(result: "CompressResult") -> None:
    """Print the summary and where the files are."""
    from toolchain.measure import render_terminal  # noqa: PLC0415 - loads numpy and onnxruntime

    click.echo(render_terminal(result.report, colour=True))  # click strips the colour where it is not wanted
    click.echo(f"model   {result.path}\nreport  {result.report_path}")


def conclude(result: "CompressResult", quiet: bool) -> None:
    """Print what became of the gates; exit with 1 if one is missed, the files being written all the same.

    Args:
        result: of the run.
        quiet: print the missed ones only, as errors.
    """
    from toolchain.gates.render import render_text  # noqa: PLC0415 - loads numpy and onnxruntime

    missed = any(not outcome.passed for outcome in result.gates)
    if result.gates and not quiet:
        click.echo(f"\n{render_text(result.gates)}")
    if missed:
        if quiet:
            click.echo(render_text(result.gates, missed_only=True), err=True)
        raise click.exceptions.Exit(1)
