"""``compress inspect``: what a model holds."""

from pathlib import Path

import click

from toolchain.commands.reported import reported


@click.command("inspect")
@click.argument("model", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
def inspect_model(model: Path, as_json: bool) -> None:
    """Show what MODEL holds, and what can be pruned and quantized and what cannot and why."""
    with reported():
        from toolchain.inspection import inspect, render_inspection, to_json  # noqa: PLC0415 - loads onnx

        inspection = inspect(model)
        click.echo(to_json(inspection) if as_json else render_inspection(inspection))
