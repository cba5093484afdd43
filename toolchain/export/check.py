"""Everything that a written file must show before it takes its place."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path

import numpy as np

from calibration.data import Batch, Dataset
from toolchain.export.decisions import compare_decisions
from toolchain.export.differences import compare_tensors
from toolchain.export.folding import check_folded
from toolchain.export.parity import Parity, verify
from toolchain.module import OnnxModule

BATCH = 16
ELEMENTS = 1 << 21  # of a batch of inputs, at most: values inside, which are held all at once, are 100 times as many
BATCHES = 4  # that outputs are compared on, number by number
TENSORS = 4  # samples that values inside are compared on, at most
DECISIONS = 5000  # samples that are compared by their class, at most


def check_export(model: Path, module: OnnxModule, data: Dataset) -> Parity:
    """Return how near the file comes to the module that it was written from.

    Args:
        model: the file.
        module: in evaluation mode, on the CPU.
        data: what both are asked.

    Raises:
        ExportError: the runtime does not rebuild the weights at load, or computes something else.
    """
    check_folded(model, module.graph)
    fixed = module.graph.batch_size

    def batches(size: int) -> Iterator[Batch]:
        return (batch for batch in data.batches(size) if len(batch) == size or fixed is None)

    size = fixed or min(len(data), BATCH, max(1, ELEMENTS // _elements(data)))
    parity = verify(model, module, (batch.feeds for batch in islice(batches(size), BATCHES)))
    decisions = compare_decisions(model, module, islice(batches(size), max(1, DECISIONS // size)))
    outputs = [
        replace(output, samples=decisions[output.name].samples, same_class=decisions[output.name].share)
        if output.name in decisions
        else output
        for output in parity.outputs
    ]
    tensors = [compare_tensors(model, module, batch.feeds) for batch in islice(batches(fixed or min(size, TENSORS)), 1)]
    return replace(parity, outputs=tuple(outputs), tensors=tuple(chain.from_iterable(tensors)))


def _elements(data: Dataset) -> int:
    """Return the elements of one sample."""
    return max(1, sum(array.size for array in data.batch(np.arange(1)).feeds.values()))
