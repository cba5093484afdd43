"""``compress bench``: what models cost to run."""
# ruff: noqa: PLC0415 - onnx, onnxruntime, numpy and rich take a while to import

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from toolchain.commands.devices import SCRIPT, Devices, with_devices
from toolchain.commands.reported import reported
from toolchain.errors import BenchError

if TYPE_CHECKING:
    from toolchain.bench.history import Change

_FILE = click.Path(dir_okay=False, path_type=Path)


def _counts(_ctx: click.Context, _param: click.Parameter, value: str | None) -> tuple[int, ...]:
    """Parse whole numbers above zero, separated by commas."""
    parts = [part.strip() for part in (value or "").split(",") if value]
    if not all(part.isascii() and part.isdigit() and int(part) for part in parts):
        raise click.BadParameter(f"{value!r} is not a list of whole numbers above zero, such as 1,8")
    return tuple(dict.fromkeys(int(part) for part in parts))


def _names(_ctx: click.Context, _param: click.Parameter, value: str) -> tuple[str, ...]:
    """Parse names, separated by commas."""
    names = tuple(dict.fromkeys(part.strip() for part in value.split(",") if part.strip()))
    if not names:
        raise click.BadParameter("give at least one name, such as cpu")
    return names


@click.command()
@click.argument("models", metavar="ORIGINAL [COMPRESSED]...", type=_FILE, nargs=-1, required=True)
@click.option("--threads", metavar="N,..", callback=_counts, help="Threads of one operator. [default: every core]")
@click.option("--batch", "batches", metavar="N,..", callback=_counts, help="Samples at a time. [default: 1]")
@click.option(
    "--provider",
    "providers",
    metavar="NAME,..",
    callback=_names,
    default="cpu",
    show_default=True,
    help="cpu, cuda, tensorrt, openvino, xnnpack, coreml, or whatever the installed ONNX Runtime has.",
)
@click.option(
    "--optimization",
    type=click.Choice(["all", "extended", "basic", "none"]),
    default="all",
    show_default=True,
    help="Graph optimizations of the session.",
)
@click.option(
    "--shape", "shapes", metavar="NAME=1x3x224x224", multiple=True, help="Shape of an input; once for each open one."
)
@click.option("--inputs", type=_FILE, help=".npz or .npy of samples. [default: random, from the model's signature]")
@click.option(
    "--seconds",
    metavar="N",
    type=click.FloatRange(0.1, 3600),
    default=6.0,
    show_default=True,
    help="Of timing, per table.",
)
@click.option("--profile", is_flag=True, help="Show the time in every operator, original beside compressed.")
@click.option(
    "--transfers",
    type=click.Choice(["in", "out"]),
    default="in",
    show_default=True,
    help="Copies to and from a GPU: in or out of the figures.",
)
@click.option("--compare", type=_FILE, help="JSON of an earlier --json: show what changed, and what is noise.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
@click.option("-q", "--quiet", is_flag=True, help="Show no progress.")
@with_devices
def bench(  # noqa: PLR0913, PLR0917 - one argument per option of the command
    models: tuple[Path, ...],
    threads: tuple[int, ...],
    batches: tuple[int, ...],
    providers: tuple[str, ...],
    optimization: str,
    shapes: tuple[str, ...],
    inputs: Path | None,
    seconds: float,
    profile: bool,
    transfers: str,
    compare: Path | None,
    as_json: bool,
    quiet: bool,
    devices: Devices,
) -> None:
    """Measure what models cost to run in ONNX Runtime.

    Runs ORIGINAL and every COMPRESSED in turns, and shows latency, throughput, speedup with its confidence interval,
    time to load, memory and bytes. Any ONNX models with the same inputs will do.

    Exits with 1 if something could not be measured.
    """
    with reported():
        from toolchain.bench import history, measurement, rows
        from toolchain.bench.inputs import parse_shape
        from toolchain.progress import watch

        earlier = None if compare is None else history.read_document(compare)
        settings = measurement.Settings(
            threads=threads or (0,),
            batches=batches,
            providers=[measurement.provider_name(name) for name in providers],
            optimization=optimization,
            transfers=transfers,
            shapes=dict(map(parse_shape, shapes)),
            inputs=inputs,
            seconds=seconds,
            profile=profile,
        )
        if devices.script:
            from toolchain.bench.script import write_script

            click.echo(write_script(models, settings, devices.output or SCRIPT))
            return
        if earlier is not None and devices.result is None:
            history.expect(earlier, measurement.short_names(models), settings)
        with watch(quiet) as progress:
            document, unreached = devices.measure(models, settings, progress)
        errors = list(unreached)
        if document["cases"]:
            changes = None
            try:
                changes = None if earlier is None else history.compare(earlier, document)
            except BenchError as refused:  # what was measured is shown all the same
                errors.append(refused)
            click.echo(_json(document, changes) if as_json else _tables(document, changes))
            devices.add_to_report(document)
        failed = [why for case in document["cases"] for why in rows.complaints(case)]
        for why in failed:
            click.echo(f"error: {why}", err=True)
        if failed and document["notes"]:
            click.echo(f"hint: {'; '.join(document['notes'])}", err=True)
        for error in errors:
            click.echo(f"error: {error}" + (f"\nhint: {error.hint}" if error.hint else ""), err=True)
        if failed or errors:
            raise click.exceptions.Exit(1)


def _json(document: dict[str, Any], compared: "tuple[list[Change], list[str]] | None") -> str:
    if compared is not None:
        changes, notes = compared
        document = document | {"changes": [asdict(change) for change in changes], "compared": notes}
    return json.dumps(document, indent=1, ensure_ascii=False)


def _tables(document: dict[str, Any], compared: "tuple[list[Change], list[str]] | None") -> str:
    from toolchain.bench.render import render_bench, render_changes
    from toolchain.bench.render_devices import render_devices

    # Click strips the colour where it is not wanted.
    text = render_bench(document, colour=True) + render_devices(document, colour=True)
    return (text if compared is None else text + render_changes(*compared, colour=True)).rstrip("\n")
