import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from toolchain.errors import ModelError
from toolchain.graph import Initializers

SPARSE = helper.make_sparse_tensor(
    numpy_helper.from_array(np.array([2], np.float16), "s"), numpy_helper.from_array(np.array([4])), [2, 3]
)
CONSTANTS = {
    "dense": numpy_helper.from_array(np.arange(6, dtype=np.float32).reshape(2, 3)),
    "sparse": SPARSE,
    "number": helper.make_attribute("value_float", 1.5),
    "numbers": helper.make_attribute("value_ints", [3, 4]),
}


def test_shape_and_type_are_those_of_the_array():
    initializers = Initializers(CONSTANTS)
    assert list(initializers) == list(CONSTANTS)
    for name, array in initializers.items():
        assert initializers.shape(name) == array.shape
        assert initializers.size(name) == array.size
        assert initializers.dtype(name) == array.dtype
    np.testing.assert_array_equal(initializers["sparse"], [[0, 0, 0], [0, 2, 0]])


def test_arrays_are_read_only_and_own_ones_are_not():
    initializers = Initializers(CONSTANTS)
    for name in CONSTANTS:
        with pytest.raises(ValueError, match="read-only"):
            initializers[name][...] = 0
        before = initializers[name].copy()
        initializers.own(name)[...] = 7
        np.testing.assert_array_equal(initializers[name], before)


@pytest.mark.parametrize("change", [lambda t: t.dims.append(2), lambda t: t.dims.__setitem__(0, -2)])
def test_a_tensor_that_does_not_fit_its_shape_is_refused_at_once(change):
    tensor = onnx.TensorProto()
    tensor.CopyFrom(CONSTANTS["dense"])
    change(tensor)
    with pytest.raises(ModelError, match="tensor 'w' has"):
        Initializers({"w": tensor})
