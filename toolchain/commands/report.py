"""``compress report``: the runs of a folder, compared on one page."""

from pathlib import Path

import click

from toolchain.commands.reported import reported


@click.command("report")
@click.argument("folder", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The page; links go from its folder.  [default: DIR/index.html]",
)
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but warnings and errors.")
def report_runs(folder: Path, output: Path | None, quiet: bool) -> None:
    """Compare all runs whose report.json lies in DIR or below it, on one page.

    The page draws accuracy against size and against latency, marks the runs that none beats in both (the Pareto
    front), and links to their own pages. Runs of different models are kept apart. A report that cannot be read, or of
    another schema version, is named and left out.
    """
    with reported():
        from toolchain.measure.comparison import write_comparison  # noqa: PLC0415 - loads jinja2 and onnx

        page = output or folder / "index.html"
        for error in write_comparison(folder, page):
            click.echo(f"warning: left out: {error}", err=True)
        if not quiet:
            click.echo(f"page    {page}")
