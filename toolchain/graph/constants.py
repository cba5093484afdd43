"""Constant tensors as the file holds them: reads their values, and writes others in their place."""

from collections.abc import Iterable
from io import BytesIO
from math import prod

import numpy as np
import onnx
from onnx import helper, numpy_helper

from toolchain.errors import ExportError, ModelError

# The part of a model that holds a constant: an initializer, or the attribute of a Constant node.
Constant = onnx.TensorProto | onnx.SparseTensorProto | onnx.AttributeProto

# A few bytes can declare a sparse tensor of any size. Sparser than this is taken for damage where it is not small.
MAX_SPARSE_GROWTH = 4096
FREE_SPARSE_BYTES = 2**26

# Until this version of the intermediate representation every initializer is listed as an input too.
IR_FREE_INITIALIZERS = 4

MAX_RANK = 64  # of numpy

# Bits of the element types that are packed several to a byte; older versions of onnx lack some of them.
_PACKED = {"INT2": 2, "UINT2": 2, "INT4": 4, "UINT4": 4, "FLOAT4E2M1": 4, "FLOAT6E2M3": 6, "FLOAT6E3M2": 6}
_BITS = {number: _PACKED[name] for name, number in onnx.TensorProto.DataType.items() if name in _PACKED}


def add_initializers(proto: onnx.ModelProto, tensors: Iterable[onnx.TensorProto]) -> None:
    """Give a model more initializers, in place; below IR version 4 every one of them must be an input as well."""
    for tensor in tensors:
        proto.graph.initializer.append(tensor)
        if proto.ir_version < IR_FREE_INITIALIZERS:
            proto.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))


def constant_of(attribute: onnx.AttributeProto) -> Constant:
    """Return what holds the value of a ``Constant`` node with this attribute; it is a part of the attribute."""
    if attribute.HasField("t"):
        return attribute.t
    if attribute.HasField("sparse_tensor"):
        return attribute.sparse_tensor
    return attribute


def shape_of(constant: Constant) -> tuple[int, ...]:
    """Return the dimensions of a constant."""
    if isinstance(constant, onnx.AttributeProto):
        return _plain(constant).shape
    return tuple(constant.dims)


def dtype_of(constant: Constant) -> np.dtype:
    """Return the element type of a constant."""
    if isinstance(constant, onnx.AttributeProto):
        return _plain(constant).dtype
    tensor = constant.values if isinstance(constant, onnx.SparseTensorProto) else constant
    return helper.tensor_dtype_to_np_dtype(tensor.data_type)


def is_packed(tensor: onnx.TensorProto) -> bool:
    """Return whether elements are smaller than a byte each."""
    return tensor.data_type in _BITS


def stored_bytes(tensor: onnx.TensorProto) -> int:
    """Return how many bytes the values of a tensor take as raw data."""
    bits = _BITS.get(tensor.data_type, 8 * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)
    return -(-prod(tensor.dims) * bits // 8)


def check_constant(name: str, constant: Constant) -> None:
    """Check that a constant can be decoded, and that its file justifies the memory that it takes.

    Raises:
        ModelError: what the file holds does not fit the declared shape and element type, or these are absurd.
    """
    if isinstance(constant, onnx.AttributeProto):
        return
    dims = list(constant.dims)
    if any(size < 0 for size in dims):
        raise ModelError(f"tensor {name!r} has a negative dimension: {dims}")
    if len(dims) > MAX_RANK:
        raise ModelError(f"tensor {name!r} has {len(dims):,} dimensions, at most {MAX_RANK} can be held")
    if isinstance(constant, onnx.SparseTensorProto):
        _check_sparse(name, constant)
    else:
        _check_dense(name, constant)


def _check_dense(name: str, tensor: onnx.TensorProto) -> None:
    try:
        field = helper.tensor_dtype_to_field(tensor.data_type)
    except KeyError:
        raise ModelError(f"tensor {name!r} has the unknown element type {tensor.data_type}") from None
    if tensor.HasField("segment"):
        raise ModelError(f"tensor {name!r} is a segment of another one, which is not supported")
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        return
    dims = list(tensor.dims)
    if tensor.HasField("raw_data"):
        wanted, got = stored_bytes(tensor), len(tensor.raw_data)
        if got != wanted:
            raise ModelError(f"tensor {name!r} has {got:,} bytes, its shape {dims} needs {wanted:,}")
        return
    wanted, got = _stored_values(tensor), len(getattr(tensor, field))
    if got != wanted:
        raise ModelError(f"tensor {name!r} has {got:,} values in {field}, its shape {dims} needs {wanted:,}")


def _stored_values(tensor: onnx.TensorProto) -> int:
    """Return how many numbers the values of a tensor take where they are not raw data."""
    count = prod(tensor.dims)
    if tensor.data_type in (onnx.TensorProto.COMPLEX64, onnx.TensorProto.COMPLEX128):
        return 2 * count
    bits = _BITS.get(tensor.data_type, 8)
    return -(-count * bits // 8) if bits in (2, 4) else count  # 6 bits take a number each


def _check_sparse(name: str, sparse: onnx.SparseTensorProto) -> None:
    check_constant(name, sparse.values)
    check_constant(f"indices of {name}", sparse.indices)
    dims, count, shape = list(sparse.dims), prod(sparse.values.dims), list(sparse.indices.dims)
    flat = list(sparse.values.dims) == [count] and sparse.indices.data_type == onnx.TensorProto.INT64
    if not flat or shape not in ([count], [count, len(dims)]):
        raise ModelError(
            f"sparse tensor {name!r} of {count:,} values has indices of shape {shape}, int64 [{count}] needed"
        )
    itemsize = dtype_of(sparse).itemsize
    if prod(dims) * itemsize > FREE_SPARSE_BYTES + MAX_SPARSE_GROWTH * count * itemsize:
        raise ModelError(f"sparse tensor {name!r} of {count:,} values has the shape {dims}, too many for what it holds")
    indices = numpy_helper.to_array(sparse.indices)
    bounds = [prod(dims)] if indices.ndim == 1 else dims
    if count and ((indices < 0) | (indices >= np.array(bounds))).any():
        raise ModelError(f"sparse tensor {name!r} of shape {dims} has an index outside of it")


def array_of(constant: Constant) -> np.ndarray:
    """Return the values of a constant; they may not be writable."""
    if isinstance(constant, onnx.SparseTensorProto):
        return _densify(constant)
    if isinstance(constant, onnx.TensorProto):
        return numpy_helper.to_array(constant)
    return _plain(constant)


def own_array_of(constant: Constant) -> np.ndarray:
    """Return the values of a constant as a writable array that shares its memory with nothing."""
    if isinstance(constant, onnx.TensorProto) and constant.HasField("raw_data") and not is_packed(constant):
        # protobuf gives out a copy, of which BytesIO makes a writable buffer without a second one: the largest weight
        # would else be in memory three times.
        buffer = BytesIO(constant.raw_data).getbuffer()
        return np.frombuffer(buffer, dtype_of(constant)).reshape(tuple(constant.dims))
    array = array_of(constant)
    return array if array.flags.writeable and array.flags.owndata else array.copy()


def same_bits(one: np.ndarray | None, other: np.ndarray | None) -> bool:
    """Return whether two arrays of one shape and element type agree in every bit, so that NaN equals itself."""
    if one is None or other is None:
        return one is other
    return np.array_equal(bytes_of(one), bytes_of(other))


def store(constant: Constant, array: np.ndarray) -> None:
    """Write other values into a constant, encoded as those before.

    Args:
        constant: a float tensor, not in external data; changed in place. A sparse tensor keeps the positions that it
            has and gets those that are no longer zero.
        array: of the constant's shape and element type.

    Raises:
        ExportError: a sparse tensor keeps its values in external data, where there is no room for more.
    """
    if isinstance(constant, onnx.SparseTensorProto):
        if any(part.data_location == onnx.TensorProto.EXTERNAL for part in (constant.values, constant.indices)):
            raise ExportError(f"the sparse tensor {constant.values.name!r} is in external data, it cannot be changed")
        _store_sparse(constant, array)
    elif isinstance(constant, onnx.TensorProto):
        _store_dense(constant, array)
    elif constant.type == onnx.AttributeProto.FLOAT:
        constant.f = float(array)
    else:
        constant.floats[:] = array.tolist()


def _store_dense(tensor: onnx.TensorProto, array: np.ndarray) -> None:
    if tensor.HasField("raw_data"):
        tensor.raw_data = array.tobytes()
        return
    field = helper.tensor_dtype_to_field(tensor.data_type)
    made = helper.make_tensor("", tensor.data_type, array.shape, array.reshape(-1))
    getattr(tensor, field)[:] = getattr(made, field)


def _store_sparse(sparse: onnx.SparseTensorProto, array: np.ndarray) -> None:
    positions = numpy_helper.to_array(sparse.indices)
    linear = positions if positions.ndim == 1 else np.ravel_multi_index(tuple(positions.T), tuple(sparse.dims))
    flat = np.ascontiguousarray(array).reshape(-1)
    filled = np.any(bytes_of(flat).reshape(flat.size, -1), axis=1)  # by bits, as -0.0 is a value too
    filled[linear] = True
    if filled.sum() > linear.size:
        linear = np.flatnonzero(filled)
        again = linear if positions.ndim == 1 else np.stack(np.unravel_index(linear, tuple(sparse.dims)), axis=1)
        sparse.indices.dims[:] = again.shape
        _store_dense(sparse.indices, again.astype(positions.dtype))
        sparse.values.dims[:] = linear.shape
    _store_dense(sparse.values, flat[linear])


def bytes_of(array: np.ndarray) -> np.ndarray:
    """Return the bytes of an array, without a copy where it is contiguous."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def _densify(sparse: onnx.SparseTensorProto) -> np.ndarray:
    """Return the dense array of a sparse tensor with linear ``[NNZ]`` or coordinate ``[NNZ, rank]`` indices."""
    values, indices = numpy_helper.to_array(sparse.values), numpy_helper.to_array(sparse.indices)
    dense = np.zeros(tuple(sparse.dims), values.dtype)
    if indices.ndim == 1:
        dense.reshape(-1)[indices] = values
    else:
        dense[tuple(indices.T)] = values
    return dense


def _plain(attribute: onnx.AttributeProto) -> np.ndarray:
    value = helper.get_attribute_value(attribute)
    if attribute.type in (onnx.AttributeProto.INT, onnx.AttributeProto.INTS):
        return np.array(value, np.int64)
    if attribute.type in (onnx.AttributeProto.FLOAT, onnx.AttributeProto.FLOATS):
        return np.array(value, np.float32)
    return np.array(value, object)
