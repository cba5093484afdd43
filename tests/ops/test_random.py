import numpy as np
import pytest
import torch

from toolchain.ops.random import (
    bernoulli,
    dropout,
    multinomial,
    random_normal,
    random_normal_like,
    random_uniform,
    random_uniform_like,
)

FLOAT, INT32, INT64, BOOL, FLOAT16, DOUBLE = 1, 6, 7, 9, 10, 11

SEEDED = {
    "RandomNormal": lambda seed: random_normal(shape=[2, 9], seed=seed),
    "RandomNormalLike": lambda seed: random_normal_like(torch.zeros(2, 9), seed=seed),
    "RandomUniform": lambda seed: random_uniform(shape=[2, 9], seed=seed),
    "RandomUniformLike": lambda seed: random_uniform_like(torch.zeros(2, 9), seed=seed),
    "Bernoulli": lambda seed: bernoulli(torch.full((2, 40), 0.5), seed=seed),
    "Multinomial": lambda seed: multinomial(torch.zeros(2, 9), sample_size=20, seed=seed),
    "Dropout": lambda seed: dropout(torch.ones(2, 40), [0.5], [1], seed=seed),
}


@pytest.mark.parametrize("name", SEEDED)
def test_a_seed_gives_the_same_numbers_and_another_gives_others(name):
    draw = SEEDED[name]
    assert torch.equal(draw(1), draw(1))
    assert not torch.equal(draw(1), draw(2))


@pytest.mark.parametrize("name", SEEDED)
def test_without_a_seed_the_numbers_are_those_of_torch(name):
    torch.manual_seed(0)
    first, second = SEEDED[name](None), SEEDED[name](None)
    assert not torch.equal(first, second)
    torch.manual_seed(0)
    assert torch.equal(SEEDED[name](None), first)


def test_seeds_between_whole_numbers_differ():
    assert not torch.equal(random_normal(shape=[9], seed=1.5), random_normal(shape=[9], seed=1.25))


@pytest.mark.parametrize(("dtype", "kind"), [(FLOAT, torch.float32), (FLOAT16, torch.float16), (DOUBLE, torch.float64)])
def test_numbers_have_the_type_and_distribution_that_is_asked_for(dtype, kind):
    normal = random_normal(shape=[100, 100], dtype=dtype, mean=3.0, scale=0.5, seed=0)
    uniform = random_uniform(shape=[100, 100], dtype=dtype, low=-2.0, high=1.0, seed=0)
    assert normal.dtype == uniform.dtype == kind
    assert normal.double().mean().item() == pytest.approx(3, abs=0.02)
    assert normal.double().std().item() == pytest.approx(0.5, abs=0.02)
    assert uniform.double().mean().item() == pytest.approx(-0.5, abs=0.03)
    assert uniform.min() >= -2
    assert uniform.max() <= 1


@pytest.mark.parametrize("like", [random_normal_like, random_uniform_like])
def test_numbers_are_like_the_input_unless_a_type_is_given(like):
    assert like(torch.zeros(3, 4, dtype=torch.float64)).dtype == torch.float64
    assert like(torch.zeros(3, 4, dtype=torch.int32), dtype=FLOAT).shape == (3, 4)


def test_draws_follow_their_probabilities():
    x = torch.tensor([0.0, 0.25, 1.0]).expand(4000, 3)
    drawn = bernoulli(x, dtype=BOOL, seed=0)
    assert drawn.dtype == torch.bool
    np.testing.assert_allclose(drawn.double().mean(0), [0, 0.25, 1], atol=0.03)
    classes = multinomial(torch.tensor([[0.1, 0.2, 0.7]]).log() + 5, sample_size=4000, dtype=INT64, seed=0)
    assert classes.dtype == torch.int64
    np.testing.assert_allclose(classes[0].bincount(minlength=3) / 4000, [0.1, 0.2, 0.7], atol=0.03)


def test_what_a_graph_in_training_mode_keeps_is_scaled_and_carries_the_gradient():
    x = torch.randn(40, 50, dtype=torch.float64, requires_grad=True)
    y, kept = dropout(x, [0.25], [1], seed=3, output_count=2)
    assert kept.double().mean().item() == pytest.approx(0.75, abs=0.05)
    torch.testing.assert_close(y, torch.where(kept, x / 0.75, 0))
    y.sum().backward()
    torch.testing.assert_close(x.grad, kept / 0.75, check_dtype=False)


def test_a_ratio_of_one_is_refused():
    with pytest.raises(ValueError, match="below 1"):
        dropout(torch.ones(2), [1.0], [1])


@pytest.mark.parametrize("opset", [7, 9, 10, 11])
def test_dropout_by_attribute_agrees(agree, opset):
    x = {"x": np.arange(6, dtype=np.float32).reshape(2, 3)}
    agree("Dropout", x, opset=opset, ratio=0.5)
    agree("Dropout", x, outputs=2, opset=opset, ratio=0.5)


@pytest.mark.parametrize("opset", [12, 13, 22])
@pytest.mark.parametrize(("ratio", "training"), [(None, None), (0.5, None), (0.5, False), (0.0, True)])
def test_dropout_that_drops_nothing_agrees(agree, ratio, training, opset):
    inputs = {"x": np.arange(6, dtype=np.float32).reshape(2, 3)}
    if ratio is not None:
        inputs["ratio"] = np.array(ratio, np.float32)
    if training is not None:
        inputs["training"] = np.array(training)
    for constants in ([], [name for name in inputs if name != "x"]):
        agree("Dropout", inputs, outputs=2, constants=constants, opset=opset)


@pytest.mark.parametrize(
    ("operator", "inputs", "keys"),
    [
        ("RandomNormal", {}, {"shape": [2, 3], "dtype": DOUBLE}),
        ("RandomUniform", {}, {"shape": [2, 3]}),
        ("RandomNormalLike", {"x": np.zeros((2, 3), np.float64)}, {}),
        ("RandomUniformLike", {"x": np.zeros((2, 3), np.int32)}, {"dtype": FLOAT}),
        ("Bernoulli", {"x": np.full((2, 3), 0.5, np.float32)}, {"dtype": INT32}),
        ("Bernoulli", {"x": np.full((2, 3), 0.5, np.float64)}, {}),
        ("Multinomial", {"x": np.zeros((2, 3), np.float32)}, {"sample_size": 5}),
    ],
)
def test_types_and_shapes_agree(agree, operator, inputs, keys):
    agree(operator, inputs, opset=15, atol=100, **keys)  # the numbers themselves are others
