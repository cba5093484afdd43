"""``compress MODEL``: the main job."""
# ruff: noqa: PLC0415 - torch, onnx, numpy and rich take seconds to import

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from toolchain.amounts import parse_duration, parse_prune, parse_quant
from toolchain.augmentation import parse_augment
from toolchain.commands.callbacks import numbers, understood_by
from toolchain.commands.reported import reported
from toolchain.commands.summary import conclude, summarise
from toolchain.commands.thresholds import with_gates
from toolchain.gates.limits import LIMITS, Gates
from toolchain.structures import parse_structure

if TYPE_CHECKING:
    from calibration.data import Preprocessing
    from toolchain.planning.plan import Allocate, EncodingName, Objective, Precision, TargetName

Device = Literal["auto", "cpu", "cuda"]
Layout = Literal["auto", "nchw", "nhwc"]

SECTIONS = {
    "What to do": (
        "prune",
        "structure",
        "round_to",
        "allocate",
        "quant",
        "first_last",
        "target",
        "objective",
        "encoding",
        "recipe",
    ),
    "Data": ("data", "evaluation", "scale", "mean", "std", "layout"),
    "Training": ("epochs", "budget", "augment", "learning_rate", "precision", "device", "seed", "resume"),
    "Output": ("output", "report", "quiet", "verbose"),
    "Gates (exit code 1 if one is missed)": tuple(LIMITS),
}

_FILE = click.Path(dir_okay=False, path_type=Path)


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
    help="Keep channel, filter and groups in multiples of N channels. [default: 8, 8, 16]",
)
@click.option(
    "--allocate",
    type=click.Choice(["auto", "parameters", "bytes", "flops", "ms"]),
    help="What keeping a weight costs, when tensors are compared. [default: auto]",
)
@click.option(
    "--quant",
    metavar="GRID",
    callback=understood_by(parse_quant),
    help="8bit, 6bit, 5bit, 4bit, 3bit, 2bit, ternary, binary; 4bit,asymmetric,block32; 3bit,power; 8bit,tensor; auto: "
    "the fewest bytes (not milliseconds) within --max-drop.",
)
@click.option("--first-last", metavar="GRID", help="GRID of the first and last tensors: 8bit, or float.")
@click.option(
    "--target",
    type=click.Choice(["cpu", "cuda", "tensorrt", "portable"]),
    help="Where it is to run; portable: standard operators, opset 18 at most. [default: cpu]",
)
@click.option(
    "--objective", type=click.Choice(["latency", "size"]), help="What kernels are chosen for. [default: latency]"
)
@click.option(
    "--encoding",
    type=click.Choice(["auto", "dense", "sparse", "packed"]),
    help="How tensors are stored; auto: by the fewest bytes. [default: auto]",
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
@with_gates
def run(  # noqa: PLR0913, PLR0917 - one argument per option of the command
    model: Path,
    prune: str | None,
    structure: str | None,
    round_to: int | None,
    quant: str | None,
    first_last: str | None,
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
    target: "TargetName | None",
    objective: "Objective | None",
    encoding: "EncodingName | None",
    device: Device,
    seed: int,
    resume: bool,
    output: Path | None,
    report: Path | None,
    quiet: bool,
    verbose: bool,
    gates: Gates,
) -> None:
    """Compress MODEL."""
    if prune is None and structure is None and quant is None and recipe is None:
        raise click.UsageError("say what to do: --prune 36x, --quant 2bit, both, or --recipe recipe.toml")
    if epochs is not None and budget is not None:
        raise click.UsageError("--epochs and --budget exclude each other")
    if (scale or mean or std or layout) and data is None and evaluation is None:
        raise click.UsageError("--scale, --mean, --std and --layout describe the data: they need --data or --eval")
    with reported(verbose, partial(_checkpoint, model, output)):
        from toolchain.pipeline import compress
        from toolchain.progress import watch

        with watch(quiet, verbose) as progress:
            result = compress(
                model,
                prune=prune,
                structure=structure,
                round_to=round_to,
                quant=quant,
                first_last=first_last,
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
                target=target,
                objective=objective,
                encoding=encoding,
                gates=gates,
                progress=progress,
            )
        if not quiet:
            summarise(result)
        conclude(result, quiet)


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
