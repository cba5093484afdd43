"""The options of ``compress bench`` that speak of other machines, and of a report that is there already."""
# ruff: noqa: PLC0415 - onnxruntime, numpy and jinja2 take a while to import

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, fields
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from toolchain.errors import HostError, ToolchainError

if TYPE_CHECKING:
    from toolchain.bench.measurement import Settings
    from toolchain.progress import Progress

_Result = TypeVar("_Result")
_FILE = click.Path(dir_okay=False, path_type=Path)
SCRIPT = Path("compress-bench.py")
HOW = {"threads", "batches", "providers", "optimization", "shapes", "inputs", "seconds", "profile", "transfers"}


@dataclass(frozen=True)
class Devices:
    """What the options ask for; the fields are theirs."""

    on: Sequence[str]
    python: str | None
    remote_folder: str | None
    script: bool
    output: Path | None
    result: Path | None
    report: Path | None

    def check(self) -> None:
        """Refuse options that do not go together.

        Raises:
            click.UsageError: which.
        """
        ways = {"--on": self.on, "--script": self.script, "--from": self.result}
        given = [name for name, value in ways.items() if value]
        if len(given) > 1:
            raise click.UsageError(f"{' and '.join(given)} are different ways to measure on another machine: give one")
        if (self.python is not None or self.remote_folder is not None) and not self.on:
            raise click.UsageError("--python and --remote-folder are of the machine that --on names")
        if self.output is not None and not self.script:
            raise click.UsageError("-o names the file that --script writes; figures go to standard output")
        if self.script and self.report is not None:
            raise click.UsageError("--script measures nothing yet; give --report together with --from")
        given = _given_options(HOW if self.result is not None else ())
        if given:
            raise click.UsageError(f"{', '.join(given)}: what --from shows is measured already; give it to --script")

    def measure(
        self, models: Sequence[Path], settings: "Settings", progress: "Progress"
    ) -> tuple[dict[str, Any], Sequence[ToolchainError]]:
        """Return the bench document, and the errors of machines that were not reached.

        Raises:
            ToolchainError: nothing can be measured, or the report is of other files.
        """
        from toolchain.bench import measurement

        if self.report is not None:
            from toolchain.files import sha256
            from toolchain.measure.report_row import find_report

            find_report(self.report, [(path, sha256(path)) for path in models if path.is_file()])
        if self.result is not None:
            from toolchain.bench.script import read_by_hand

            return read_by_hand(self.result, models, progress), ()
        if self.on:
            from toolchain.bench.hosts import parse_host
            from toolchain.bench.remote import Remote, bench_on

            remotes, unreached = [], []
            for text in self.on:
                try:
                    remotes.append(Remote(parse_host(text), self.python or "python3", self.remote_folder or ""))
                except HostError as error:
                    unreached.append(error)
            document, failed = bench_on(remotes, models, settings, progress)
            return document, [*unreached, *failed]
        return measurement.bench(models, settings, progress), ()

    def add_to_report(self, document: dict[str, Any]) -> None:
        """Add the figures to the report that was named, if one was.

        Raises:
            ToolchainError: it cannot be written.
        """
        if self.report is not None:
            from toolchain.measure.report_row import add_to_report

            click.echo(f"added to {add_to_report(self.report, document)}", err=True)


def _given_options(names: Collection[str]) -> list[str]:
    """Return those options of this command line whose parameters have these names."""
    context = click.get_current_context()
    return [
        parameter.opts[0]
        for parameter in context.command.params
        if parameter.name in names and context.get_parameter_source(parameter.name) is not ParameterSource.DEFAULT
    ]


def with_devices(command: Callable[..., _Result]) -> Callable[..., _Result]:
    """Give a command the options; what they ask for reaches it as one argument ``devices``."""

    @wraps(command)
    def gathered(*arguments: Any, **options: Any) -> _Result:  # noqa: ANN401 - a command's own
        asked = Devices(**{field.name: options.pop(field.name) for field in fields(Devices)})
        asked.check()
        return command(*arguments, devices=asked, **options)

    found: Callable[..., _Result] = gathered
    for option in reversed(_OPTIONS):
        found = option(found)
    return found


_OPTIONS = (
    click.option(
        "--on",
        metavar="DEVICE",
        multiple=True,
        help='Measure there, not here: ssh://user@host[:port], or a command such as "docker exec -i box". Repeatable.',
    ),
    click.option("--python", metavar="COMMAND", help="Python on the device. [default: python3]"),
    click.option("--remote-folder", metavar="PATH", help="Where on the device. [default: its $TMPDIR, or /tmp]"),
    click.option("--script", is_flag=True, help="Write one file to measure by hand on a machine without ssh."),
    click.option("-o", "--output", type=_FILE, help=f"The file that --script writes. [default: {SCRIPT}]"),
    click.option("--from", "result", type=_FILE, help="Show what the file of --script measured."),
    click.option(
        "--report",
        type=click.Path(file_okay=False, path_type=Path),
        metavar="DIR",
        help="Add the figures to the report in this folder.",
    ),
)
