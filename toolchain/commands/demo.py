"""``compress demo``: the main job on a model and data of its own."""
# ruff: noqa: PLC0415 - torch, onnx, numpy and rich take seconds to import

from pathlib import Path

import click

from toolchain.commands.reported import reported
from toolchain.commands.summary import summarise


@click.command()
@click.option(
    "-o",
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("compress-demo"),
    show_default=True,
    help="Folder for the model, the data and the report; made if it does not exist.",
)
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors.")
@click.option("-v", "--verbose", is_flag=True, help="Print every interim figure, and tracebacks of errors.")
def demo(output: Path, quiet: bool, verbose: bool) -> None:
    """Train a small CNN on handwritten digits, compress it 36x / 2 bit, and say where the report is."""
    with reported(verbose):
        from toolchain.demo import run_demo
        from toolchain.progress import watch

        with watch(quiet, verbose) as progress:
            result = run_demo(output, progress)
        if not quiet:
            summarise(result)
