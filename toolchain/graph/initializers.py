"""Constant tensors of a model, decoded from the file's bytes when they are asked for."""

from collections.abc import Iterator, Mapping
from math import prod

import numpy as np
import onnx

from toolchain.graph.constants import Constant, array_of, check_constant, dtype_of, own_array_of, shape_of
from toolchain.graph.external import SourceFile, is_external, map_array, read_array, span_of


class Initializers(Mapping[str, np.ndarray]):
    """Read-only arrays by name.

    An array is made at every access and kept by nobody: a model is in memory once, in its proto, or not at all where
    its values stay in external data. Ask ``shape`` and ``dtype`` where the values do not matter, which costs nothing.
    """

    def __init__(self, constants: Mapping[str, Constant], files: Mapping[str, SourceFile] | None = None) -> None:
        """Check that every constant can be decoded.

        Args:
            constants: by name.
            files: the external data files by location, of constants that lie there.

        Raises:
            ModelError: the file's bytes do not fit the declared shape, or the shape is absurd.
        """
        for name, constant in constants.items():
            check_constant(name, constant)
        self._constants = constants
        self._files = files or {}

    def __getitem__(self, name: str) -> np.ndarray:
        constant = self._constants[name]
        if isinstance(constant, onnx.TensorProto) and is_external(constant):
            array = map_array(constant, self._file(constant))
        else:
            array = array_of(constant)
        array.flags.writeable = False
        return array

    def own(self, name: str) -> np.ndarray:
        """Return the values as a writable array that shares its memory with nothing.

        It costs the memory of the array and no more, where copying the read-only one can cost twice that.
        """
        constant = self._constants[name]
        if isinstance(constant, onnx.TensorProto) and is_external(constant):
            return read_array(constant, self._file(constant))
        return own_array_of(constant)

    def _file(self, tensor: onnx.TensorProto) -> SourceFile:
        return self._files[span_of(tensor).location]

    def __contains__(self, name: object) -> bool:
        return name in self._constants

    def __iter__(self) -> Iterator[str]:
        return iter(self._constants)

    def __len__(self) -> int:
        return len(self._constants)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the dimensions of a constant."""
        return shape_of(self._constants[name])

    def size(self, name: str) -> int:
        """Return the number of elements of a constant."""
        return prod(self.shape(name))

    def dtype(self, name: str) -> np.dtype:
        """Return the element type of a constant."""
        return dtype_of(self._constants[name])
