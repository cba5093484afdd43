import math

import pytest
import torch

from passes.allowance import Allowance
from passes.constraints import Budget
from passes.finetune import FinetuneStage
from passes.regrowth import Regrowth
from passes.training import train
from toolchain.formats import TensorFormat

BUDGET = Budget(("a", "b"), 10)


def start(values, masks):
    """Return formats, latent weights and an optimizer that has taken one step of no length."""
    latent = {name: torch.nn.Parameter(value * masks[name]) for name, value in values.items()}
    optimizer = torch.optim.Adam(latent.values(), 0.0)
    for name, weight in latent.items():
        weight.grad = masks[name].float()
    optimizer.step()
    return {name: TensorFormat(mask) for name, mask in masks.items()}, latent, optimizer


def moved(done=0.0, share=0.5, **options):
    """Return what a move makes of ten weights over two tensors, of which six have larger gradients when pruned."""
    values = {"a": torch.arange(1.0, 9.0), "b": torch.arange(9.0, 17.0)}
    masks = {"a": torch.arange(8) < 6, "b": torch.arange(8) < 4}
    formats, latent, optimizer = start(values, masks)
    regrowth = Regrowth((BUDGET,), "magnitude", share, **options)
    means = {"a": torch.tensor([0, 0, 0, 0, 0, 0, 5.0, -7.0]), "b": torch.tensor([0, 0, 0, 0, 1.0, -6.0, 8.0, 0])}
    for noise in (10.0, -10.0):
        for name, mean in means.items():
            regrowth.observe(name, mean + noise * (mean != 0))
    regrowth.move(formats, latent, optimizer, done)
    return masks, formats, latent, optimizer


def test_the_least_of_the_kept_weights_go_and_the_steepest_of_the_pruned_ones_grow_over_all_tensors():
    _, formats, _, _ = moved(share=0.4)
    assert formats["a"].mask.tolist() == [False] * 4 + [True] * 4
    assert formats["b"].mask.tolist() == [True] * 4 + [False, True, True, False]


def test_weights_of_a_dear_tensor_go_first_and_grow_last():
    _, formats, _, _ = moved(share=0.4, costs={"b": 1e6})
    assert formats["a"].mask.tolist() == [False] + [True] * 7  # the least went beside three of the dear ones
    assert formats["b"].mask.sum() == 3  # one that stayed, as no tensor goes empty, and two for want of others


@pytest.mark.parametrize("done", [0.0, 0.3, 0.7, 1.0])
def test_the_count_never_changes_and_fewer_weights_move_towards_the_end(done):
    masks, formats, _, _ = moved(done)
    assert sum(int(fmt.mask.sum()) for fmt in formats.values()) == 10
    dropped = sum(int((masks[name] & ~fmt.mask).sum()) for name, fmt in formats.items())
    assert dropped == round(10 * 0.5 * 0.5 * (1 + math.cos(math.pi * done)))


def test_what_grows_begins_at_zero_with_the_step_size_of_its_tensor():
    masks, formats, latent, optimizer = moved()
    for name, fmt in formats.items():
        grown = fmt.mask & ~masks[name]
        moments = optimizer.state[latent[name]]
        assert bool(grown.any())
        assert not latent[name][~masks[name] | ~fmt.mask].any()
        assert not moments["exp_avg"][grown].any()
        assert torch.equal(moments["exp_avg_sq"][grown], moments["exp_avg_sq"][masks[name]].mean().expand(grown.sum()))


def test_the_mean_is_a_running_one_in_which_noise_cancels():
    regrowth = Regrowth((BUDGET,), "magnitude")
    for step in range(400):
        regrowth.observe("a", torch.tensor([1.0, -1.0 if step % 2 else 1.0]))
    steady, noisy = regrowth.mean["a"].tolist()
    assert steady == pytest.approx(1.0, abs=0.01)
    assert abs(noisy) < 0.02


def test_of_two_weights_that_with_the_smaller_gradient_grows_if_it_has_less_noise():
    formats, latent, optimizer = start({"a": torch.arange(1.0, 5.0)}, {"a": torch.arange(4) < 2})
    regrowth = Regrowth((Budget(("a",), 2),), "magnitude", share=0.5)
    for step in range(200):
        regrowth.observe("a", torch.tensor([0.0, 0.0, 2.0 + (-1) ** step * 10, 1.0 + (-1) ** step]))
    regrowth.move(formats, latent, optimizer, 0.0)
    assert formats["a"].mask.tolist() == [False, True, False, True]


def test_nothing_grows_where_no_gradient_comes_any_more_and_what_has_grown_there_goes():
    formats, latent, optimizer = start({"a": torch.tensor([1.0, 2, 3, 4, 0, 0])}, {"a": torch.arange(6) < 4})
    regrowth = Regrowth((Budget(("a",), 4),), "magnitude", share=0.25)
    regrowth.observe("a", torch.tensor([0, 0, 0, 0, 9.0, 0]))
    regrowth.move(formats, latent, optimizer, 0.0)
    assert formats["a"].mask.tolist() == [False, True, True, True, True, False]  # reads a channel that has just died
    for gradient in ([0, 0, 0, 0, 0, 2.0], [0.0, 0, 0, 0, 0, 0]):
        regrowth.observe("a", torch.tensor(gradient))
    regrowth.move(formats, latent, optimizer, 1.0)  # when nothing else moves any more
    assert formats["a"].mask.tolist() == [False, True, True, True, False, True]


def test_tensors_of_no_budget_are_not_observed():
    regrowth = Regrowth((BUDGET,), "magnitude")
    regrowth.observe("c", torch.ones(2))
    assert regrowth.mean == regrowth.mean_square == {}


def test_training_finds_a_better_mask_than_a_random_one_it_was_given(make_trainer):
    losses = {}
    for moves in (False, True):
        trainer = make_trainer()
        generator = torch.Generator().manual_seed(3)
        for name in ("w1", "w2"):
            weight = trainer.module.tensor(name)
            trainer.module.formats[name] = TensorFormat(torch.rand(weight.shape, generator=generator) < 0.25)
            with torch.no_grad():
                weight.mul_(trainer.module.formats[name].mask)
        before = {name: fmt.mask for name, fmt in trainer.module.formats.items()}
        regrowth = Regrowth((Budget(("w1", "w2"), 1),), "curvature", every=8) if moves else None
        train(trainer, FinetuneStage("regrow", trainer.module, regrowth=regrowth), Allowance(steps=400))
        losses[moves] = trainer.evaluate().loss
        after = {name: fmt.mask for name, fmt in trainer.module.formats.items()}
        assert sum(int(mask.sum()) for mask in after.values()) == sum(int(mask.sum()) for mask in before.values())
        assert any(not torch.equal(before[name], after[name]) for name in before) == moves
        assert all(bool((trainer.module.tensor(name)[~mask] == 0).all()) for name, mask in after.items())
    assert losses[True] < 0.7 * losses[False]
