import numpy as np
import onnx.parser
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from toolchain.export.sessions import open_session
from toolchain.formats import Grid, OwnRange, Rescaling, TensorFormat

CASES = [  # levels, whether the zero point is shifted, axis, block size
    (tuple(range(-7, 8)), False, None, 0),
    (tuple(range(4)), True, 0, 0),
    (tuple(range(16)), True, 1, 3),
    ((-4, -2, -1, 0, 1, 2, 4), False, 1, 0),
    ((-2, -1, 1, 2), False, 0, 5),
    (tuple(range(256)), True, None, 0),
]


def make(case, generator, shape):
    levels, shifted, axis, block = case
    others = shape[0] * shape[1] // shape[axis] if axis is not None else 0
    size = () if axis is None else (shape[axis], -(-others // block)) if block else (shape[axis],)
    zero = torch.randint(0, len(levels), size, dtype=torch.int32, generator=generator) if shifted else 0
    return Grid(levels, torch.rand(size, generator=generator) + 0.1, zero, axis, block)


@settings(deadline=None)
@given(st.sampled_from(CASES), st.integers(0, 999))
def test_projecting_is_the_nearest_point_of_the_grid_and_twice_changes_nothing(case, seed):
    generator = torch.Generator().manual_seed(seed)
    values = 3 * torch.randn(4, 7, generator=generator)
    grid = make(case, generator, values.shape)
    once = TensorFormat(grid=grid).project(values)
    assert torch.equal(TensorFormat(grid=grid).project(once), once)
    scale, zero = grid.broadcast_scale(values.shape), grid.broadcast_zero(values.shape)
    every = torch.stack([(level - zero + torch.zeros(4, 7)) * scale for level in grid.levels])
    nearest = (every - values).abs().amin(0)
    torch.testing.assert_close((once - values).abs(), nearest)


@settings(deadline=None)
@given(st.sampled_from(CASES), st.integers(0, 999))
def test_zeros_outside_the_mask_stay_zero_on_any_grid(case, seed):
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(4, 7, generator=generator) < 0.5
    found = TensorFormat(mask, make(case, generator, mask.shape))
    assert not bool(found.project(torch.randn(4, 7, generator=generator))[~mask].any())


@pytest.mark.parametrize("case", CASES)
def test_a_format_comes_back_from_its_state(case):
    grid = make(case, torch.Generator().manual_seed(0), (4, 7))
    back = TensorFormat.from_state(TensorFormat(None, grid).state()).grid
    values = torch.randn(4, 7)
    assert torch.equal(back.dequantize(back.quantize(values)), grid.dequantize(grid.quantize(values)))


@pytest.mark.parametrize(
    "values",
    [torch.randn(40, 7) * 3, torch.rand(9) + 2, -torch.rand(9) - 2, torch.zeros(4), torch.zeros(0, 3)],
    ids=["both signs", "positive", "negative", "zeros", "none"],
)
def test_values_on_their_own_range_are_those_that_the_runtime_makes(values):
    dims = ", ".join("NMK"[: values.ndim])
    text = f"""<ir_version: 8, opset_import: ["" : 13]> g (float[{dims}] x) => (float[{dims}] y) {{
        q, s, z = DynamicQuantizeLinear(x)  y = DequantizeLinear(q, s, z) }}"""
    ranged = TensorFormat.from_state(TensorFormat(own_range=OwnRange()).state())
    found = ranged.project(values)
    if values.numel():
        (expected,) = open_session(onnx.parser.parse_model(text), threads=1).run(None, {"x": values.numpy()})
        torch.testing.assert_close(found, torch.from_numpy(expected), rtol=0, atol=1e-6)
    assert found.shape == values.shape


@settings(deadline=None)
@given(st.lists(st.integers(-100_000, 100_000), min_size=1, max_size=30), st.integers(0, 99), st.booleans())
def test_sums_are_rescaled_to_the_bit_as_the_runtime_does_it_however_far_off_they_are(sums, seed, per_channel):
    generator = torch.Generator().manual_seed(seed)
    acc = torch.tensor(sums)[None].repeat(2, 1)
    step = 1e-4 * (0.5 + torch.rand(len(sums) if per_channel else (), generator=generator))
    output = 0.05 * (0.5 + torch.rand((), generator=generator))
    rescaling = Rescaling(step, output)
    exact = acc.double() * step.double()
    found = TensorFormat.from_state(TensorFormat(rescaling=rescaling).state()).project(
        (exact * (1 + 1e-7 * torch.randn(exact.shape, generator=generator))).float()
    )
    expected = np.rint(acc.numpy().astype(np.float32) * (step.numpy() / output.numpy()))
    assert np.array_equal((found / output).round().numpy(), expected)


def test_a_grid_with_shifted_zeros_holds_zero_exactly():
    grid = make(CASES[2], torch.Generator().manual_seed(1), (4, 7))
    assert not bool(TensorFormat(grid=grid).project(torch.zeros(4, 7)).any())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"levels": (1, 1), "scale": torch.tensor(1.0)}, "sorted and distinct"),
        ({"levels": (0, 1), "scale": torch.ones(3)}, "does not fit axis=None"),
        ({"levels": (0, 1), "scale": torch.ones(3), "axis": 0, "block_size": 2}, "block_size=2"),
        ({"levels": (0, 1), "scale": torch.ones(3), "axis": 0, "zero_point": torch.zeros(2)}, "zero points"),
        ({"levels": (0, 1), "scale": torch.tensor(0.0)}, "positive"),
    ],
)
def test_a_grid_that_contradicts_itself_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Grid(**arguments)


def test_levels_round_half_to_even_before_the_zero_point_is_added_as_quantize_linear_does():
    grid = Grid(tuple(range(256)), torch.tensor(1.0), zero_point=3)
    assert grid.quantize(torch.tensor([0.5, 1.5, 2.5])).tolist() == [3, 5, 5]
