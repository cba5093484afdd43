"""What a user would otherwise pick for int8 without training: ONNX Runtime's own quantization, and NNCF's for ONNX.

A peer that is not installed, or that fails on a model, is left out of the table with the reason.
"""

import contextlib
import importlib.util
import io
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

Feeds = Sequence[Mapping[str, np.ndarray]]

# Activations are int8 by default, and then ResNet-20 runs 0.9 times as fast as in float, not twice.
STATIC = {
    "quant_format": QuantFormat.QDQ,
    "per_channel": True,
    "weight_type": QuantType.QInt8,
    "activation_type": QuantType.QUInt8,
}


class Reader(CalibrationDataReader):  # type: ignore[misc]  # it has no types
    """Hands calibration samples to ONNX Runtime's tool one by one."""

    def __init__(self, feeds: Iterable[Mapping[str, np.ndarray]]) -> None:
        self.rows: Iterator[Mapping[str, np.ndarray]] = iter(feeds)

    def get_next(self) -> Mapping[str, np.ndarray] | None:
        """Return the next sample, or None at the end."""
        return next(self.rows, None)


def prepare(model: Path, folder: Path) -> Path:
    """Return the model at opset 13 or newer, which scales per channel need, preprocessed as the tools ask for it."""
    proto = onnx.load(model)
    if next(entry.version for entry in proto.opset_import if not entry.domain) < 13:
        proto = onnx.version_converter.convert_version(proto, 13)
    raised, prepared = folder / "raised.onnx", folder / "prepared.onnx"
    onnx.save(proto, raised)
    quant_pre_process(raised, prepared, skip_symbolic_shape=True)
    return prepared


def static(model: Path, target: Path, feeds: Feeds) -> None:
    """``quantize_static``: QDQ, weights int8 per channel, activations uint8 by their range, as is advised for x86."""
    quantize_static(model, target, Reader(feeds), **STATIC)


def dynamic(model: Path, target: Path, feeds: Feeds) -> None:  # noqa: ARG001 - as the others
    """``quantize_dynamic`` as it is set up by default but for uint8 weights, without which convolutions do not load."""
    quantize_dynamic(model, target, weight_type=QuantType.QUInt8)


def nncf(model: Path, target: Path, feeds: Feeds) -> None:
    """``nncf.quantize`` of an ONNX model as it is set up by default."""
    import nncf as library  # noqa: PLC0415 - optional, and it takes seconds to import

    logging.getLogger("nncf").setLevel(logging.ERROR)
    onnx.save(library.quantize(onnx.load(model), library.Dataset(feeds), subset_size=len(feeds)), target)


PEERS: dict[str, Callable[[Path, Path, Feeds], None]] = {
    "ONNX Runtime static": static,
    "ONNX Runtime dynamic": dynamic,
    "NNCF": nncf,
}


def quantize(name: str, model: Path, target: Path, feeds: Feeds) -> str:
    """Write the model as a peer quantizes it; return why it could not, or nothing."""
    if name == "NNCF" and importlib.util.find_spec("nncf") is None:
        return "not installed: pip install nncf"
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            PEERS[name](prepare(model, target.parent), target, feeds)
    except Exception as error:  # noqa: BLE001 - whatever the peer raises is the result
        return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
    return ""
