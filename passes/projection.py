"""One-shot projection, for runs without training."""

import torch

from passes.base import Constraint
from toolchain.module import OnnxModule


@torch.no_grad()
def project_onto(module: OnnxModule, names: tuple[str, ...], constraint: Constraint) -> None:
    """Move the named weights of ``module`` to the nearest point of the set, and record their formats."""
    every = module.weights()
    weights = {name: every[name] for name in names}
    formats = constraint.fit(weights, {n: module.formats[n] for n in names if n in module.formats}, {})
    for name, weight in weights.items():
        weight.copy_(formats[name].project(weight))
    module.formats.update(formats)
