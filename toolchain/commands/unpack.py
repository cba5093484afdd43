"""``compress unpack``: the plain model of a packed one."""
# ruff: noqa: PLC0415 - onnx, onnxruntime and numpy take a while to import

from pathlib import Path

import click

from toolchain.commands.reported import reported

_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command()
@click.argument("model", type=_FILE)
@click.option("-o", "--output", type=_FILE, required=True, help="The plain model.")
@click.option(
    "--shape", "shapes", metavar="NAME=1x3x224x224", multiple=True, help="Shape of an input; once for each open one."
)
@click.option("--inputs", type=_FILE, help=".npz or .npy of samples to compare on. [default: random]")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors.")
def unpack(model: Path, output: Path, shapes: tuple[str, ...], inputs: Path | None, quiet: bool) -> None:
    """Write MODEL, in which tensors are packed, with ordinary initializers.

    For runtimes and tools that do not decode tensors at load. Kernels stay as they are. The file appears once ONNX
    Runtime has computed the same bits with both.
    """
    with reported():
        from toolchain.bench.inputs import parse_shape
        from toolchain.units import bytes_text
        from toolchain.unpacking import unpack as write_plain

        done = write_plain(model, output, dict(map(parse_shape, shapes)), inputs)
        if not quiet:
            sizes = f"{bytes_text(done.packed_bytes)} -> {bytes_text(done.bytes)}"
            click.echo(f"{done.path}: {done.tensors:,} tensors unpacked, {sizes}, the same outputs bit for bit")
