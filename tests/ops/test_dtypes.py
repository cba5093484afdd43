"""Every element type survives the way into torch and back, and shows its values on the way."""

import numpy as np
import onnx
import pytest
import torch

from toolchain.ops import to_numpy, to_tensor
from toolchain.ops.dtypes import integer_limits, numbers, torch_dtype
from toolchain.ops.logic import is_inf, is_nan

HELD = [kind for name, kind in onnx.TensorProto.DataType.items() if name not in ("UNDEFINED", "STRING")]
HELD = [kind for kind in HELD if "FLOAT6" not in onnx.TensorProto.DataType.Name(kind)]


def every_value(kind):
    """Return all values of a type of up to 16 bits, some of the larger ones."""
    dtype = onnx.helper.tensor_dtype_to_np_dtype(kind)
    if dtype.name in ("int2", "uint2", "int4", "uint4"):
        low, high = integer_limits(torch_dtype(kind))
        return np.arange(low, high + 1).astype(dtype)
    if dtype.name == "float4_e2m1fn":
        return np.arange(16).astype(np.uint8).view(dtype)
    if dtype.itemsize <= 2 and dtype.kind != "b":
        return np.arange(2 ** (8 * dtype.itemsize)).astype(f"uint{8 * dtype.itemsize}").view(dtype)
    return np.random.default_rng(0).integers(-5, 5, 16).astype(dtype)


@pytest.mark.parametrize("kind", HELD, ids=onnx.TensorProto.DataType.Name)
def test_arrays_come_back_bit_for_bit(kind):
    array = every_value(kind).reshape(2, -1)
    tensor = to_tensor(array)
    assert tensor.dtype == torch_dtype(kind)
    assert tensor.shape == array.shape
    for given, back in ((array, to_numpy(tensor)), (array.T, to_numpy(tensor.T))):
        assert back.dtype == given.dtype
        assert np.ascontiguousarray(back).tobytes() == np.ascontiguousarray(given).tobytes()


@pytest.mark.parametrize("kind", HELD, ids=onnx.TensorProto.DataType.Name)
def test_numbers_are_the_values(kind):
    array = every_value(kind)
    wide, target = (np.complex128, torch.complex128) if array.dtype.kind == "c" else (np.float64, torch.float64)
    with np.errstate(invalid="ignore"):  # NaN
        expected = array.astype(wide)
    np.testing.assert_array_equal(numbers(to_tensor(array)).to(target).numpy(), expected)


def test_a_tensor_does_not_share_memory_with_its_array():
    array = np.zeros(3, np.float32)
    tensor = to_tensor(array)
    array[0] = 1
    assert tensor[0] == 0


def test_limits_are_those_of_the_type():
    limits = {
        name: integer_limits(getattr(torch, name)) for name in ("int2", "uint2", "int4", "uint4", "int8", "uint16")
    }
    assert limits == {
        "int2": (-2, 1),
        "uint2": (0, 3),
        "int4": (-8, 7),
        "uint4": (0, 15),
        "int8": (-128, 127),
        "uint16": (0, 65535),
    }


def test_what_torch_has_no_type_for_is_named():
    with pytest.raises(ValueError, match="STRING"):
        torch_dtype(onnx.TensorProto.STRING)
    with pytest.raises(ValueError, match="object"):
        to_tensor(np.array(["a"], object))


@pytest.mark.parametrize("name", ["float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz"])
def test_nan_and_infinity_are_found_in_small_floats(name):
    array = every_value(onnx.TensorProto.DataType.Value(name.upper().replace("_", "")))
    x = to_tensor(array)
    assert is_nan(x).tolist() == np.isnan(array.astype(np.float32)).tolist()
    assert is_inf(x, detect_negative=0).tolist() == np.isposinf(array.astype(np.float32)).tolist()
