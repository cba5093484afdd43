"""ONNX and numpy element types as torch ones.

Every ONNX type that torch can name is held in that torch type. Torch has no kernels for some of them: 2- and 4-bit
integers and 4-bit floats can only be viewed, 8-bit floats only converted. One element of them takes one byte, also of
those with fewer bits (torch itself would put two 4-bit floats into one ``float4_e2m1fn_x2``), so shapes stay ONNX's
shapes. ``numbers`` gives their values in a type that torch computes with, ``toolchain.ops.casting`` makes them.
"""

import numpy as np
import onnx
import torch
from torch import Tensor

_NAMES = {
    "FLOAT": "float32",
    "UINT8": "uint8",
    "INT8": "int8",
    "UINT16": "uint16",
    "INT16": "int16",
    "INT32": "int32",
    "INT64": "int64",
    "BOOL": "bool",
    "FLOAT16": "float16",
    "DOUBLE": "float64",
    "UINT32": "uint32",
    "UINT64": "uint64",
    "COMPLEX64": "complex64",
    "COMPLEX128": "complex128",
    "BFLOAT16": "bfloat16",
    "FLOAT8E4M3FN": "float8_e4m3fn",
    "FLOAT8E4M3FNUZ": "float8_e4m3fnuz",
    "FLOAT8E5M2": "float8_e5m2",
    "FLOAT8E5M2FNUZ": "float8_e5m2fnuz",
    "FLOAT8E8M0": "float8_e8m0fnu",
    "FLOAT4E2M1": "float4_e2m1fn_x2",
    "UINT4": "uint4",
    "INT4": "int4",
    "UINT2": "uint2",
    "INT2": "int2",
}

# Older versions of onnx and of torch lack some of the small types, so both are asked for what they know.
_TORCH: dict[int, torch.dtype] = {
    number: vars(torch)[_NAMES[name]]
    for name, number in onnx.TensorProto.DataType.items()
    if _NAMES.get(name) in vars(torch)
}
_ONNX = {kind: number for number, kind in _TORCH.items()}
_BY_NAME = {name: vars(torch)[name] for name in _NAMES.values() if name in vars(torch)}

# The integers of fewer than 8 bits: how many, and in what they are held.
SMALL_INTEGERS: dict[torch.dtype, tuple[int, torch.dtype]] = {
    _BY_NAME[name]: (bits, carrier)
    for name, bits, carrier in (
        ("int2", 2, torch.int8),
        ("int4", 4, torch.int8),
        ("uint2", 2, torch.uint8),
        ("uint4", 4, torch.uint8),
    )
    if name in _BY_NAME
}
FLOAT4: torch.dtype | None = _BY_NAME.get("float4_e2m1fn_x2")
FLOAT8_EXPONENT: torch.dtype | None = _BY_NAME.get("float8_e8m0fnu")
FLOAT8 = tuple(kind for name, kind in _BY_NAME.items() if name.startswith("float8") and kind is not FLOAT8_EXPONENT)
# Floats that torch only converts.
SMALL_FLOATS = frozenset(kind for kind in (*FLOAT8, FLOAT8_EXPONENT, FLOAT4) if kind is not None)

# The values of the codes 0 to 7 of a 4-bit float (sign, 2 bits of exponent, 1 of mantissa); the sign is bit 3.
FLOAT4_VALUES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)


def torch_dtype(elem_type: int) -> torch.dtype:
    """Return the torch type of an ONNX element type.

    Raises:
        ValueError: torch has no such type.
    """
    if elem_type not in _TORCH:
        names = {number: name for name, number in onnx.TensorProto.DataType.items()}
        raise ValueError(f"element type {names.get(elem_type, elem_type)} has no equivalent in torch")
    return _TORCH[elem_type]


def integer_limits(kind: torch.dtype) -> tuple[int, int]:
    """Return the smallest and the largest value of an integer type."""
    if kind not in SMALL_INTEGERS:
        limits = torch.iinfo(kind)
        return limits.min, limits.max
    bits, carrier = SMALL_INTEGERS[kind]
    return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if carrier == torch.int8 else (0, 2**bits - 1)


def numbers(x: Tensor) -> Tensor:
    """Return the values of ``x`` in a type that torch computes with; most types are one, and come back as they are.

    Integers of fewer than 8 bits come as int8 or uint8, floats of 4 and 8 bits as float32.
    """
    if x.dtype in SMALL_INTEGERS:
        return x.view(SMALL_INTEGERS[x.dtype][1])
    if x.dtype == FLOAT4:
        codes = x.view(torch.uint8).long()
        table = torch.tensor([*FLOAT4_VALUES, *(-value for value in FLOAT4_VALUES)], device=x.device)
        return table[codes]
    return x.float() if x.dtype in SMALL_FLOATS else x


def to_tensor(array: np.ndarray, copy: bool = True) -> Tensor:
    """Return a tensor that holds ``array``, element for element.

    Args:
        array: of any type that onnx knows.
        copy: False where nobody else uses the array, which the tensor then takes over.

    Raises:
        ValueError: torch has no such type.
    """
    name = "float4_e2m1fn_x2" if array.dtype.name == "float4_e2m1fn" else array.dtype.name
    kind = _BY_NAME.get(name)
    if kind is None:
        raise ValueError(f"{name} has no equivalent in torch")
    if kind in SMALL_INTEGERS:
        signed = SMALL_INTEGERS[kind][1] == torch.int8
        return torch.from_numpy(array.astype(np.int8 if signed else np.uint8)).view(kind)
    array = array.copy() if copy else array
    if kind == torch.bfloat16:
        return torch.from_numpy(array.view(np.uint16)).view(kind)
    if kind in SMALL_FLOATS:
        return torch.from_numpy(array.view(np.uint8)).view(kind)
    return torch.from_numpy(array)


def to_numpy(tensor: Tensor) -> np.ndarray:
    """Return the elements as an array of the numpy type that onnx uses for them; the reverse of ``to_tensor``."""
    tensor = tensor.detach().cpu()
    kind = onnx.helper.tensor_dtype_to_np_dtype(_ONNX[tensor.dtype])
    array: np.ndarray
    if tensor.dtype in SMALL_INTEGERS:
        array = numbers(tensor).numpy().astype(kind)
    elif tensor.dtype == torch.bfloat16:
        array = tensor.contiguous().view(torch.uint16).numpy().view(kind)
    elif tensor.dtype in SMALL_FLOATS:
        array = tensor.contiguous().view(torch.uint8).numpy().view(kind)
    else:
        array = tensor.numpy()
    return array
