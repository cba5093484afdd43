"""The ``compress`` command: parses, calls the library, prints.

Nothing heavy is imported before it is needed, so that ``compress --help`` answers at once.
"""
# ruff: noqa: PLC0415 - torch, onnx, numpy and rich take seconds to import; each command imports what it uses

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from toolchain.amounts import parse_duration, parse_prune, parse_quant
from toolchain.augmentation import parse_augment
from toolchain.callbacks import numbers, understood_by
from toolchain.errors import ToolchainError, nearest
from toolchain.structures import parse_structure

if TYPE_CHECKING:
    from calibration.data import Preprocessing
    from toolchain.pipeline import CompressResult
    from toolchain.plan import Allocate, Precision

Device = Literal["auto", "cpu", "cuda"]
Layout = Literal["auto", "nchw", "nhwc"]

EXAMPLES = """\b
Examples:
  compress model.onnx --prune 36x --quant 2bit
  compress model.onnx --prune 97% --data train.npz --eval test.npz --budget 10m
  compress model.onnx --quant binary --data photos/ --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225 --scale 1/255
  compress model.onnx --recipe recipe.toml -o small.onnx --report report/
  compress model.onnx --recipe recipe.toml -o small.onnx --report report/ --resume
  compress inspect model.onnx
"""

SECTIONS = {
    "What to do": ("prune", "structure", "round_to", "allocate", "quant", "recipe"),
    "Data": ("data", "evaluation", "scale", "mean", "std", "layout"),
    "Training": ("epochs", "budget", "augment", "learning_rate", "precision", "device", "seed", "resume"),
    "Output": ("output", "report", "quiet", "verbose"),
}

_FILE = click.Path(dir_okay=False, path_type=Path)


class _ModelGroup(click.Group):
    """A group whose first argument is a subcommand or, when it is none, the model of ``run``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in (*self.commands, "--help", "--version"):
            args = ["--", *args]  # leave every option that follows to the command
        return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        first = args[0]
        if first in self.commands:
            return super().resolve_command(ctx, args)
        if not first.startswith("-") and not Path(first).suffix and not Path(first).exists():
            raise click.UsageError(f"{first!r} is neither a command nor a file; {nearest(first, self.commands)}", ctx)
        return run.name, run, args

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write_usage(ctx.command_path, "MODEL [OPTIONS]")
        formatter.write_usage(ctx.command_path, "COMMAND [OPTIONS]", prefix="       ")
        self.format_help_text(ctx, formatter)
        run.format_options(ctx, formatter)
        self.format_options(ctx, formatter)
        self.format_epilog(ctx, formatter)


class _ModelContext(click.Context):
    """The context of ``run``, whose name is never typed."""

    @property
    def command_path(self) -> str:
        return self.parent.command_path if self.parent is not None else super().command_path


class _ModelCommand(click.Command):
    """A command whose options are listed in ``SECTIONS``, and whose help is that of the whole program."""

    context_class = _ModelContext

    def get_help(self, ctx: click.Context) -> str:
        return ctx.parent.get_help() if ctx.parent is not None else super().get_help(ctx)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for heading, names in SECTIONS.items():
            records = [param.get_help_record(ctx) for param in self.params if param.name in names]
            with formatter.section(heading):
                formatter.write_dl([record for record in records if record is not None])


@contextmanager
def _reported(verbose: bool = False, checkpoint: Callable[[], Path] | None = None) -> Iterator[None]:
    """Turn the library's errors into ``error:`` and ``hint:`` and exit code 1, Ctrl-C into exit code 130.

    Args:
        verbose: print tracebacks of errors.
        checkpoint: returns where a run that is interrupted keeps its state; None where it keeps none.
    """
    try:
        yield
    except ToolchainError as error:
        if verbose:
            import traceback

            click.echo(traceback.format_exc(), err=True)
        click.echo(f"error: {error}", err=True)
        if error.hint:
            click.echo(f"hint: {error.hint}", err=True)
        raise click.exceptions.Exit(1) from error
    except KeyboardInterrupt as error:
        click.echo("interrupted: no file is half-written", err=True)
        if checkpoint is not None and checkpoint().exists():
            click.echo(f"hint: the same command with --resume goes on from {checkpoint()}", err=True)
        raise click.exceptions.Exit(130) from error


@click.group(cls=_ModelGroup, no_args_is_help=True, epilog=EXAMPLES)
@click.version_option(package_name="onnx-compress", message="%(prog)s %(version)s")
def main() -> None:
    """Make a trained ONNX model smaller and faster; stock ONNX Runtime runs the result.

    Prunes, quantizes and fine-tunes MODEL, writes the compressed model, checks it against ONNX Runtime, and reports,
    measured, how much smaller, faster and worse it is. Without data the model teaches itself on synthetic inputs.
    """


@click.command("run", cls=_ModelCommand)
@click.argument("model", type=_FILE)
@click.option("--prune", metavar="AMOUNT", callback=understood_by(parse_prune), help="36x, 97% or 0.97 (zeros).")
@click.option(
    "--structure",
    metavar="NAME",
    callback=understood_by(parse_structure),
    help="What is pruned together: channel, groups, filter, column, 2:4, block4x1, pattern.",
)
@click.option(
    "--round",
    "round_to",
    metavar="N",
    type=click.IntRange(min=1),
    help="Keep channel and groups in multiples of N channels. [default: 8, 16]",
)
@click.option(
    "--allocate",
    type=click.Choice(["auto", "parameters", "bytes", "flops", "ms"]),
    help="What keeping a weight costs, when tensors are compared. [default: auto]",
)
@click.option(
    "--quant", metavar="GRID", callback=understood_by(parse_quant), help="8bit, 4bit, 3bit, 2bit, ternary, binary."
)
@click.option("--recipe", type=_FILE, help="TOML file with everything else: targets per tensor, schedules.")
@click.option("--data", metavar="SOURCE", help="Training data: .npz, .npy, folder of class folders, package.mod:func.")
@click.option("--eval", "evaluation", metavar="SOURCE", help="Evaluation data. [default: a part of --data]")
@click.option("--scale", callback=numbers, metavar="S", help="Inputs are multiplied by this first, such as 1/255.")
@click.option("--mean", callback=numbers, metavar="M,..", help="Then this is subtracted, per channel.")
@click.option("--std", callback=numbers, metavar="S,..", help="Then they are divided by this, per channel.")
@click.option("--layout", type=click.Choice(["auto", "nchw", "nhwc"]), help="Layout of the data. [default: auto]")
@click.option(
    "--epochs", metavar="N", type=click.IntRange(min=0), help="Passes over the data; 0: no training, projection only."
)
@click.option(
    "--budget", metavar="TIME", callback=understood_by(parse_duration), help="Fit training into 90s, 10m, 1h30m."
)
@click.option(
    "--learning-rate",
    metavar="R",
    type=click.FloatRange(1e-9, 1e3),
    help="Of Adam, at its peak. [default: by model and data]",
)
@click.option(
    "--precision", type=click.Choice(["float32", "bfloat16"]), help="What training multiplies in. [default: float32]"
)
@click.option(
    "--augment",
    metavar="NAMES",
    callback=understood_by(parse_augment),
    help="How training images are varied: shift4,flip; none. [default: auto]",
)
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option(
    "--seed", metavar="N", type=click.IntRange(min=0), default=0, show_default=True, help="Of every random choice."
)
@click.option("--resume", is_flag=True, help="Go on with a run that was interrupted, from its last checkpoint.")
@click.option("-o", "--output", type=_FILE, help="The compressed model. [default: MODEL.compressed.onnx]")
@click.option("--report", type=click.Path(path_type=Path), help="Folder of the report. [default: OUTPUT-report]")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors.")
@click.option("-v", "--verbose", is_flag=True, help="Print every interim figure, and tracebacks of errors.")
def run(  # noqa: PLR0913, PLR0917 - one argument per option of the command
    model: Path,
    prune: str | None,
    structure: str | None,
    round_to: int | None,
    quant: str | None,
    recipe: Path | None,
    data: str | None,
    evaluation: str | None,
    scale: tuple[float, ...],
    mean: tuple[float, ...],
    std: tuple[float, ...],
    layout: Layout | None,
    epochs: int | None,
    budget: str | None,
    learning_rate: float | None,
    precision: "Precision | None",
    augment: str | None,
    allocate: "Allocate | None",
    device: Device,
    seed: int,
    resume: bool,
    output: Path | None,
    report: Path | None,
    quiet: bool,
    verbose: bool,
) -> None:
    """Compress MODEL."""
    if prune is None and structure is None and quant is None and recipe is None:
        raise click.UsageError("say what to do: --prune 36x, --quant 2bit, both, or --recipe recipe.toml")
    if epochs is not None and budget is not None:
        raise click.UsageError("--epochs and --budget exclude each other")
    if (scale or mean or std or layout) and data is None and evaluation is None:
        raise click.UsageError("--scale, --mean, --std and --layout describe the data: they need --data or --eval")
    with _reported(verbose, partial(_checkpoint, model, output)):
        from toolchain.pipeline import compress
        from toolchain.progress import watch

        with watch(quiet, verbose) as progress:
            result = compress(
                model,
                prune=prune,
                structure=structure,
                round_to=round_to,
                quant=quant,
                data=data,
                evaluation=evaluation,
                output=output,
                report=report,
                epochs=epochs,
                budget=budget,
                device=device,
                seed=seed,
                recipe=recipe,
                preprocessing=_preprocessing(scale, mean, std, layout),
                resume=resume,
                augment=augment,
                learning_rate=learning_rate,
                precision=precision,
                allocate=allocate,
                progress=progress,
            )
        if not quiet:
            _summarise(result)


def _preprocessing(
    scale: tuple[float, ...], mean: tuple[float, ...], std: tuple[float, ...], layout: Layout | None
) -> "Preprocessing | None":
    if not (scale or mean or std or layout):
        return None
    from calibration.data import Preprocessing

    return Preprocessing(scale=scale[0] if scale else 1.0, mean=mean, std=std, layout=layout or "auto")


def _checkpoint(model: Path, output: Path | None) -> Path:
    from toolchain.outputs import default_checkpoint, default_output

    return default_checkpoint(output or default_output(model))


def _summarise(result: "CompressResult") -> None:
    from toolchain.measure import render_terminal

    click.echo(render_terminal(result.report, colour=True))  # click strips the colour where it is not wanted
    click.echo(f"model   {result.path}\nreport  {result.report_path}")


@main.command("inspect")
@click.argument("model", type=_FILE)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
def inspect_model(model: Path, as_json: bool) -> None:
    """Show what MODEL holds, and what can be pruned and quantized and what cannot and why."""
    with _reported():
        from toolchain.inspection import inspect, render_inspection, to_json

        inspection = inspect(model)
        click.echo(to_json(inspection) if as_json else render_inspection(inspection))


@main.command()
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
    with _reported(verbose):
        from toolchain.demo import run_demo
        from toolchain.progress import watch

        with watch(quiet, verbose) as progress:
            result = run_demo(output, progress)
        if not quiet:
            _summarise(result)
