"""Constant tensors of a model, decoded from the file's bytes when they are asked for."""

from collections.abc import Iterator, Mapping
from math import prod

import numpy as np
import onnx
from onnx import numpy_helper

from toolchain.errors import ModelError

# A few bytes can declare a sparse tensor of any size; larger than this is taken for damage.
MAX_SPARSE_BYTES = 2**34

# Bits of the element types that are packed several to a byte.
_BITS: dict[int, int] = {
    onnx.TensorProto.INT2: 2,
    onnx.TensorProto.UINT2: 2,
    onnx.TensorProto.INT4: 4,
    onnx.TensorProto.UINT4: 4,
    onnx.TensorProto.FLOAT4E2M1: 4,
}

Constant = onnx.TensorProto | onnx.SparseTensorProto | np.ndarray


class Initializers(Mapping[str, np.ndarray]):
    """Read-only arrays by name.

    An array is made at every access and kept by nobody: a model is in memory once, in its proto. Ask ``shape`` and
    ``dtype`` where the values do not matter, which costs nothing.
    """

    def __init__(self, constants: Mapping[str, Constant]) -> None:
        """Check that every constant can be decoded.

        Raises:
            ModelError: the file's bytes do not fit the declared shape, or the shape is absurd.
        """
        for name, constant in constants.items():
            _check(name, constant)
        self._constants = constants

    def __getitem__(self, name: str) -> np.ndarray:
        array = _array(self._constants[name])
        array.flags.writeable = False
        return array

    def __contains__(self, name: object) -> bool:
        return name in self._constants

    def __iter__(self) -> Iterator[str]:
        return iter(self._constants)

    def __len__(self) -> int:
        return len(self._constants)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the dimensions of a constant."""
        constant = self._constants[name]
        return constant.shape if isinstance(constant, np.ndarray) else tuple(constant.dims)

    def size(self, name: str) -> int:
        """Return the number of elements of a constant."""
        return prod(self.shape(name))

    def dtype(self, name: str) -> np.dtype:
        """Return the element type of a constant."""
        constant = self._constants[name]
        if isinstance(constant, np.ndarray):
            return constant.dtype
        tensor = constant.values if isinstance(constant, onnx.SparseTensorProto) else constant
        return onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)


def _array(constant: Constant) -> np.ndarray:
    if isinstance(constant, onnx.SparseTensorProto):
        return _densify(constant)
    if isinstance(constant, onnx.TensorProto):
        return numpy_helper.to_array(constant)
    return constant


def _check(name: str, constant: Constant) -> None:
    if isinstance(constant, np.ndarray):
        return
    if any(size < 0 for size in constant.dims):
        raise ModelError(f"tensor {name!r} has a negative dimension: {list(constant.dims)}")
    if isinstance(constant, onnx.SparseTensorProto):
        wanted = prod(constant.dims) * onnx.helper.tensor_dtype_to_np_dtype(constant.values.data_type).itemsize
        if wanted > MAX_SPARSE_BYTES:
            raise ModelError(f"sparse tensor {name!r} has {list(constant.dims)} elements, too many to hold")
    elif constant.HasField("raw_data"):
        bits = _BITS.get(constant.data_type, 8 * onnx.helper.tensor_dtype_to_np_dtype(constant.data_type).itemsize)
        wanted, got = -(-prod(constant.dims) * bits // 8), len(constant.raw_data)
        if got != wanted:
            raise ModelError(f"tensor {name!r} has {got:,} bytes, its shape {list(constant.dims)} needs {wanted:,}")


def _densify(sparse: onnx.SparseTensorProto) -> np.ndarray:
    """Return the dense array of a sparse tensor with linear ``[NNZ]`` or coordinate ``[NNZ, rank]`` indices."""
    values, indices = numpy_helper.to_array(sparse.values), numpy_helper.to_array(sparse.indices)
    if indices.size and indices.min() < 0:
        raise ModelError(f"sparse tensor {sparse.values.name!r} has a negative index")
    dense = np.zeros(tuple(sparse.dims), values.dtype)
    if indices.ndim == 1:
        dense.reshape(-1)[indices] = values
    else:
        dense[tuple(indices.T)] = values
    return dense


def constant_of(node: onnx.NodeProto) -> Constant:
    """Return the value of a ``Constant`` node; nothing large is decoded."""
    attribute = node.attribute[0]
    if attribute.name == "value":
        return attribute.t
    if attribute.name == "sparse_value":
        return attribute.sparse_tensor
    value = onnx.helper.get_attribute_value(attribute)
    if attribute.name in ("value_int", "value_ints"):
        return np.array(value, np.int64)
    if attribute.name in ("value_float", "value_floats"):
        return np.array(value, np.float32)
    return np.array(value, object)
