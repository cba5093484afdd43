"""Where results go: default places, and the check that they can be written, made before any work starts."""

import tempfile
from pathlib import Path

from toolchain.errors import ExportError, ModelError


def default_output(model: Path) -> Path:
    """Return the output beside ``model``: ``model.onnx`` gives ``model.compressed.onnx``."""
    return model.with_name(f"{model.stem}.compressed.onnx")


def default_report(output: Path) -> Path:
    """Return the report folder beside ``output``: ``small.onnx`` gives ``small-report``."""
    return output.with_name(f"{output.stem}-report")


def check_output(model: Path, output: Path, report: Path | None) -> None:
    """Check that the compressed model and the report can be written; leaves nothing behind.

    Args:
        model: the input, which is never written.
        output: the file to write; its folder must exist.
        report: the folder to write, made later if it does not exist; None for no report.

    Raises:
        ModelError: there is no file at ``model``.
        ExportError: the output is the input or a folder, or a place cannot be written.
    """
    if not model.is_file():
        raise ModelError(f"cannot read {model}: no such file", hint="give the path of an .onnx file")
    if output.exists() and output.samefile(model):
        raise ExportError(f"the output {output} is the input itself", hint="name another file with -o")
    if output.is_dir():
        raise ExportError(f"the output {output} is a folder", hint=f"name a file, such as -o {output / 'small.onnx'}")
    if not output.parent.is_dir():
        raise ExportError(f"the output folder {output.parent} does not exist", hint=f"mkdir -p {output.parent}")
    _check_writable(output.parent, "output")
    if report is not None:
        if report.exists() and not report.is_dir():
            raise ExportError(f"the report folder {report} is a file", hint="name another folder with --report")
        existing = next(folder for folder in (report, *report.absolute().parents) if folder.exists())
        _check_writable(existing, "report")


def _check_writable(folder: Path, what: str) -> None:
    # Writing is the only test that holds for every user, mount and access list.
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ExportError(
            f"the {what} folder {folder} cannot be written: {error.strerror}", hint="name a folder that you may write"
        ) from error
