"""Gated activations."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from toolchain.ops.activation import swiglu, swish


def leaves():
    return torch.linspace(-3, 3, 6).double().requires_grad_(), torch.linspace(1, 2, 6).double().requires_grad_()


@pytest.mark.parametrize("alpha", [1.0, 0.5])
def test_swish_and_its_gate_follow_their_definition(alpha):
    gate, x = leaves()
    torch.testing.assert_close(swish(gate, alpha=alpha), gate * torch.sigmoid(alpha * gate))
    torch.testing.assert_close(swiglu(gate, x, alpha=alpha), gate * torch.sigmoid(alpha * gate) * x)
    assert torch.autograd.gradcheck(lambda *pair: swiglu(*pair, alpha=alpha), (gate, x))


def test_plain_swish_is_one_call(monkeypatch):
    monkeypatch.setattr(F, "silu", lambda x: x * 0)
    assert not swish(leaves()[0]).any()
