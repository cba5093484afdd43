import numpy as np
import torch

from calibration.signals import draw, pink_noise
from calibration.signature import Signal


def signal(meaning, shape, dtype="float32", spatial=(), high=2):
    return Signal("x", np.dtype(dtype), shape, meaning, spatial, high, ())


def generator():
    return torch.Generator().manual_seed(0)


def test_pink_noise_has_unit_variance_and_an_amplitude_that_falls_as_the_frequency_rises():
    noise = pink_noise(300, 1, (32, 32), generator())
    assert abs(noise.std().item() - 1) < 0.05
    power = torch.fft.rfft2(noise).abs().square().mean((0, 1))
    ratio = (power[0, 2] / power[0, 8]).item()
    assert 12 < ratio < 21  # (8 / 2) ** 2 = 16


def test_pink_noise_copes_with_sides_of_one_and_with_three_dimensions():
    for size in ((1, 1), (1, 5), (3, 4, 5)):
        noise = pink_noise(4, 2, size, generator())
        assert noise.shape == (4, 2, *size)
        assert bool(torch.isfinite(noise).all())


def test_neighbouring_pixels_and_channels_of_images_are_alike():
    images = draw(signal("image", (3, 32, 32), spatial=(2, 3)), 200, generator())
    assert abs(images.std().item() - 1) < 0.05
    assert (images[:, 0] * images[:, 1]).mean().item() > 0.6
    assert (images[..., 1:] * images[..., :-1]).mean().item() > 0.6


def test_channels_last_images_are_the_same_turned():
    first = draw(signal("image", (3, 8, 6), spatial=(2, 3)), 20, generator())
    last = draw(signal("image", (8, 6, 3), spatial=(1, 2)), 20, generator())
    assert torch.equal(first.permute(0, 2, 3, 1), last)


def test_images_of_bytes_use_the_range_of_bytes():
    images = draw(signal("image", (3, 8, 8), "uint8", (2, 3)), 50, generator())
    assert images.min().item() >= 0
    assert 200 < images.max().item() <= 255
    assert torch.equal(images, images.round())


def test_ids_use_the_whole_table_and_no_more():
    ids = draw(signal("ids", (16,), "int64", high=5), 50, generator())
    assert ids.unique().tolist() == [0, 1, 2, 3, 4]


def test_masks_are_a_valid_part_of_at_least_half_and_then_padding():
    mask = draw(signal("mask", (9,), "int64"), 100, generator())
    assert mask.unique().tolist() == [0, 1]
    assert bool((mask[:, 1:] <= mask[:, :-1]).all())
    assert mask.sum(1).min().item() >= 5
