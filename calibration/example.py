"""A few inputs for a model of which no data are at hand."""

import numpy as np
import torch

from calibration.signals import draw
from calibration.signature import read_signature
from toolchain.graph import Graph


def example_of(graph: Graph) -> dict[str, np.ndarray]:
    """Return some inputs that fit the model's signature.

    Raises:
        DataError: the signature does not say enough.
    """
    generator = torch.Generator().manual_seed(0)
    found = {}
    for signal in read_signature(graph):
        values = draw(signal, graph.batch_size or 2, generator).numpy().astype(signal.dtype)
        found[signal.name] = values[0] if graph.takes_sets else values
    return found
