"""What a module is made of at one moment."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from toolchain.checkpoint import State
from toolchain.formats import TensorFormat
from toolchain.module import OnnxModule


@dataclass(frozen=True)
class Snapshot:
    """The values of a module's tensors, by their names in torch, and its formats."""

    tensors: dict[str, Tensor]
    formats: dict[str, TensorFormat]

    @classmethod
    def of(cls, module: OnnxModule) -> "Snapshot":
        """Return a copy of the module's weights, buffers and formats."""
        return cls({key: value.clone() for key, value in module.state_dict().items()}, dict(module.formats))

    def restore(self, module: OnnxModule) -> None:
        """Put everything back into the module."""
        module.load_state_dict(self.tensors)
        module.formats.clear()
        module.formats.update(self.formats)

    @torch.no_grad()
    def put_back(self, module: OnnxModule, names: Iterable[str]) -> None:
        """Put the named initializers alone back into the module, and the formats that they had."""
        keys = {id(value): key for key, value in module.state_dict(keep_vars=True).items()}
        for name in names:
            value = module.tensor(name)
            value.copy_(self.tensors[keys[id(value)]])
            module.formats.pop(name, None)
            if name in self.formats:
                module.formats[name] = self.formats[name]

    def state(self) -> State:
        """Return the tensors and formats as a checkpoint holds them."""
        return {
            "tensors": dict(self.tensors),
            "formats": {name: tensor_format.state() for name, tensor_format in self.formats.items()},
        }

    @classmethod
    def from_state(cls, state: State, device: torch.device) -> "Snapshot":
        """Return what ``state`` was made of, on ``device``."""
        return cls(
            {key: value.to(device) for key, value in state["tensors"].items()},
            {name: TensorFormat.from_state(item).to(device) for name, item in state["formats"].items()},
        )
