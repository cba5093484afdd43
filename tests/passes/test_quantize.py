import torch

from passes.allowance import Allowance
from passes.constraints import Budget, LevelTarget
from passes.finetune import FinetuneStage
from passes.objective import Objective
from passes.prune import Prune
from passes.quantize import Quantize
from passes.schedule import Schedule
from passes.training import train


def test_quantizing_after_pruning_keeps_zeros_and_moves_survivors_onto_the_grid(trainer, count):
    Prune((Budget(("w1", "w2"), 60),), Schedule(update_every=8)).run(trainer, Allowance(steps=150))
    zeros = trainer.module.tensor("w1") == 0
    targets = {"w1": LevelTarget((-2, -1, 1, 2), 0), "w2": LevelTarget((-2, -1, 1, 2), 0)}
    quantize = Quantize(targets, Schedule(update_every=8, path="fixed"))
    quantize.run(trainer, Allowance(steps=150))
    train(trainer, FinetuneStage("train in grid", trainer.module, quantize.constraint), Allowance(steps=150))
    assert count(trainer) == 60
    assert bool((trainer.module.tensor("w1")[zeros] == 0).all())
    for name in targets:
        weight = trainer.module.tensor(name)
        assert torch.equal(trainer.module.formats[name].project(weight), weight)
    assert trainer.evaluate().accuracy > 0.8


def test_quantizing_without_training_only_projects(trainer):
    bias = trainer.module.tensor("b1").clone()
    Quantize({"w1": LevelTarget((-1, 1), 0)}, Schedule(path="fixed")).run(trainer, Allowance(steps=0))
    magnitudes = trainer.module.tensor("w1").detach().abs()
    assert torch.equal(magnitudes, magnitudes[:, :1].expand(-1, 6))
    assert torch.equal(trainer.module.tensor("b1"), bias)


def test_without_an_output_to_judge_by_the_method_is_kept_and_named(trainer):
    said = []
    trainer.objective = Objective(())
    targets = {name: LevelTarget(tuple(range(-3, 4)), 0) for name in ("w1", "w2")}
    Quantize(targets, Schedule(path="fixed"), method="gptq", tell=said.append).run(trainer, Allowance(steps=0))
    assert [note.split(" on ")[0] for note in said] == ["Weights were rounded by gptq"]
