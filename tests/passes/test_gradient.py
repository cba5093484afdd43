import numpy as np
import pytest
import torch

from passes.gradient import add_gradient


def gradients(trainer, sharpness):
    trainer.module.zero_grad()
    loss = add_gradient(trainer, trainer.data.batch(np.arange(32)), sharpness)
    return loss, {name: weight.grad.clone() for name, weight in trainer.module.weights().items()}


def test_the_sharpness_aware_gradient_is_that_of_the_point_uphill(trainer):
    weights = trainer.module.weights()
    before = {name: weight.detach().clone() for name, weight in weights.items()}
    loss, plain = gradients(trainer, 0.0)
    sharp_loss, sharp = gradients(trainer, 0.5)
    assert all(torch.equal(weight, before[name]) for name, weight in weights.items())
    length = torch.cat([gradient.flatten() for gradient in plain.values()]).norm()
    with torch.no_grad():
        for name, weight in weights.items():
            weight.add_(0.5 * plain[name] / length)
    uphill, expected = gradients(trainer, 0.0)
    assert sharp_loss == pytest.approx(loss)
    assert uphill > loss
    assert all(torch.allclose(sharp[name], expected[name], rtol=1e-4, atol=1e-6) for name in sharp)
    assert not torch.allclose(sharp["w1"], plain["w1"], rtol=1e-2)


@pytest.mark.parametrize("sharpness", [0.0, 0.1])
def test_the_original_is_asked_once(trainer, monkeypatch, sharpness):
    asked = []
    targets = trainer.targets
    monkeypatch.setattr(trainer, "targets", lambda *given: asked.append(1) or targets(*given))
    gradients(trainer, sharpness)
    assert len(asked) == 1


@pytest.mark.parametrize("sharpness", [0.0, 0.1])
def test_portions_of_a_batch_add_up_to_the_gradient_of_the_whole(make_trainer, sharpness):
    (loss, whole), (same, parts) = (gradients(make_trainer(batch=declared), sharpness) for declared in ("N", "8"))
    assert loss == pytest.approx(same)
    assert all(torch.allclose(whole[name], parts[name], atol=1e-6) for name in whole)
