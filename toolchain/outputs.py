"""Where results go: default places, and the check that they can be written, made before any work starts."""

import tempfile
from collections.abc import Iterable
from pathlib import Path

from toolchain.errors import ExportError, ModelError
from toolchain.graph import model_files


def default_output(model: Path) -> Path:
    """Return the output beside ``model``: ``model.onnx`` gives ``model.compressed.onnx``."""
    return model.with_name(f"{model.stem}.compressed.onnx")


def default_report(output: Path) -> Path:
    """Return the report folder beside ``output``: ``small.onnx`` gives ``small-report``."""
    if not output.name:
        raise ExportError("the output has no file name", hint="name a file with -o, such as -o small.onnx")
    return output.with_name(f"{output.stem}-report")


def default_checkpoint(output: Path) -> Path:
    """Return the checkpoint beside ``output``: ``small.onnx`` gives ``small.checkpoint.safetensors``."""
    return output.with_name(f"{output.stem}.checkpoint.safetensors")


def check_output(model: Path, output: Path, report: Path | None, read: Iterable[Path] = ()) -> None:
    """Check that the compressed model and the report can be written; leaves nothing behind.

    Args:
        model: the input, which is never written, nor is a file that it keeps its weights in.
        output: the file to write; its folder must exist.
        report: the folder to write, made later if it does not exist; None for no report.
        read: other files that the run reads, such as the recipe and the data; those that do not exist are passed over.

    Raises:
        ModelError: there is no model at ``model``.
        ExportError: the output is a file that the run reads, or a folder, or a place cannot be written.
    """
    if output.exists() and not output.is_file() and not output.is_dir():
        raise ExportError(f"the output {output} is a device or a pipe, not a file", hint="name a file with -o")
    if not model.is_file():
        raise ModelError(f"cannot read {model}: no such file", hint="give the path of an .onnx file")
    if output.exists() and output.samefile(model):
        raise ExportError(f"the output {output} is the input itself", hint="name another file with -o")
    if output.is_dir():
        raise ExportError(f"the output {output} is a folder", hint=f"name a file, such as -o {output / 'small.onnx'}")
    if output.exists():
        _check_not_read(model, output, read)
    if not output.parent.is_dir():
        raise ExportError(f"the output folder {output.parent} does not exist", hint=f"mkdir -p {output.parent}")
    _check_writable(output.parent, "output")
    if report is not None:
        if report.exists() and not report.is_dir():
            raise ExportError(f"the report folder {report} is a file", hint="name another folder with --report")
        existing = next(folder for folder in (report, *report.absolute().parents) if folder.exists())
        _check_writable(existing, "report")


def _check_not_read(model: Path, output: Path, read: Iterable[Path]) -> None:
    if any(output.samefile(file) for file in model_files(model)):
        raise ExportError(f"the output {output} holds weights of the input {model}", hint="name another file with -o")
    for file in read:
        if file.exists() and output.samefile(file):
            raise ExportError(f"the output {output} is the recipe or the data", hint="name another file with -o")


def _check_writable(folder: Path, what: str) -> None:
    # Writing is the only test that holds for every user, mount and access list.
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ExportError(
            f"the {what} folder {folder} cannot be written: {error.strerror}", hint="name a folder that you may write"
        ) from error
