"""ONNX and numpy element types as torch ones."""

import numpy as np
import onnx
import torch
from torch import Tensor

_TORCH: dict[int, torch.dtype] = {
    onnx.TensorProto.FLOAT: torch.float32,
    onnx.TensorProto.UINT8: torch.uint8,
    onnx.TensorProto.INT8: torch.int8,
    onnx.TensorProto.UINT16: torch.uint16,
    onnx.TensorProto.INT16: torch.int16,
    onnx.TensorProto.INT32: torch.int32,
    onnx.TensorProto.INT64: torch.int64,
    onnx.TensorProto.BOOL: torch.bool,
    onnx.TensorProto.FLOAT16: torch.float16,
    onnx.TensorProto.DOUBLE: torch.float64,
    onnx.TensorProto.UINT32: torch.uint32,
    onnx.TensorProto.UINT64: torch.uint64,
    onnx.TensorProto.COMPLEX64: torch.complex64,
    onnx.TensorProto.COMPLEX128: torch.complex128,
    onnx.TensorProto.BFLOAT16: torch.bfloat16,
}


def torch_dtype(elem_type: int) -> torch.dtype:
    """Return the torch type of an ONNX element type.

    Raises:
        ValueError: torch has no such type.
    """
    if elem_type not in _TORCH:
        raise ValueError(f"element type {onnx.helper.tensor_dtype_to_string(elem_type)} has no equivalent in torch")
    return _TORCH[elem_type]


def to_tensor(array: np.ndarray) -> Tensor:
    """Return a tensor that holds a copy of ``array``; 2- and 4-bit integers, which torch lacks, widen to 8 bits.

    Raises:
        ValueError: torch has no such type.
    """
    name = array.dtype.name
    if name == "bfloat16":
        return torch.from_numpy(array.view(np.uint16).copy()).view(torch.bfloat16)
    if name in ("int2", "int4"):
        return torch.from_numpy(array.astype(np.int8))
    if name in ("uint2", "uint4"):
        return torch.from_numpy(array.astype(np.uint8))
    if array.dtype.kind not in "biufc" or name.startswith("float8"):
        raise ValueError(f"{name} has no equivalent in torch")
    return torch.from_numpy(array.copy())
