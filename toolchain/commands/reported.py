"""Errors of the library as the user of a command sees them."""

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from toolchain.errors import ToolchainError


@contextmanager
def reported(verbose: bool = False, checkpoint: Callable[[], Path] | None = None) -> Iterator[None]:
    """Turn the library's errors into ``error:`` and ``hint:`` and exit code 1, Ctrl-C into exit code 130.

    Args:
        verbose: print tracebacks of errors.
        checkpoint: returns where a run that is interrupted keeps its state; None where it keeps none.
    """
    try:
        yield
    except ToolchainError as error:
        if verbose:
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
