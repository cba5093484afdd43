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
