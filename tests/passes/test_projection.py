import torch

from passes.constraints import Budget, TopK
from passes.projection import project_onto
from toolchain.formats import TensorFormat


def test_weights_move_to_the_set_and_the_formats_are_recorded(trainer, count):
    project_onto(trainer.module, ("w1", "w2"), TopK((Budget(("w1", "w2"), 20),)))
    assert count(trainer) == 20
    assert set(trainer.module.formats) == {"w1", "w2"}


def test_earlier_zeros_stay(trainer):
    mask = torch.zeros(16, 6, dtype=torch.bool)
    mask[:2] = True
    trainer.module.formats["w1"] = TensorFormat(mask)
    project_onto(trainer.module, ("w1",), TopK((Budget(("w1",), 5),)))
    assert bool((trainer.module.tensor("w1")[2:] == 0).all())
