"""The ``compress`` command: the group of its commands, and the bare form ``compress MODEL``."""

import errno
from pathlib import Path
from typing import Any

import click

from toolchain.commands.bench import bench
from toolchain.commands.check import check
from toolchain.commands.demo import demo
from toolchain.commands.inspect import inspect_model
from toolchain.commands.model import run
from toolchain.commands.report import report_runs
from toolchain.commands.unpack import unpack
from toolchain.errors import nearest

EXAMPLES = """\b
Examples:
  compress model.onnx --prune 36x --quant 2bit
  compress model.onnx --prune 97% --data train.npz --eval test.npz --budget 10m
  compress model.onnx --quant binary --data photos/ --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225 --scale 1/255
  compress model.onnx --recipe recipe.toml -o small.onnx --report report/
  compress model.onnx --recipe recipe.toml -o small.onnx --report report/ --resume
  compress inspect model.onnx
  compress bench model.onnx model.compressed.onnx
  compress check small-report/ --max-drop 0.5 --max-size 2MB
  compress report runs/
  compress unpack model.compressed.onnx -o dense.onnx
"""
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


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

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 - whatever a command returns
        """Run a command; a full disk and Ctrl-C between its own measures end it without a traceback."""
        try:
            return super().invoke(ctx)
        except OSError as error:
            if error.errno not in FULL:
                raise
            click.echo(f"error: cannot write {error.filename or 'standard output'}: {error.strerror}", err=True)
            raise click.exceptions.Exit(1) from error
        except (KeyboardInterrupt, ImportError) as error:
            if not _interrupted(error):
                raise
            click.echo("interrupted: no file is half-written", err=True)
            raise click.exceptions.Exit(130) from error

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write_usage(ctx.command_path, "MODEL [OPTIONS]")
        formatter.write_usage(ctx.command_path, "COMMAND [OPTIONS]", prefix="       ")
        self.format_help_text(ctx, formatter)
        run.format_options(ctx, formatter)
        self.format_options(ctx, formatter)
        self.format_epilog(ctx, formatter)


def _interrupted(error: BaseException | None) -> bool:
    """Tell whether Ctrl-C is behind an error: extension modules turn it into their own while they are imported."""
    return error is not None and (isinstance(error, KeyboardInterrupt) or _interrupted(error.__cause__))


@click.group(cls=_ModelGroup, no_args_is_help=True, epilog=EXAMPLES)
@click.version_option(package_name="onnx-compress", message="%(prog)s %(version)s")
def main() -> None:
    """Make a trained ONNX model smaller and faster; stock ONNX Runtime runs the result.

    Prunes, quantizes and fine-tunes MODEL, writes the compressed model, checks it against ONNX Runtime, and reports,
    measured, how much smaller, faster and worse it is. Without data the model teaches itself on synthetic inputs.
    """


for _command in (inspect_model, bench, check, demo, report_runs, unpack):
    main.add_command(_command)
