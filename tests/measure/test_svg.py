import itertools
import re

import pytest

from toolchain.measure import svg


def test_a_linear_scale_maps_its_ends_and_clamps_what_is_outside():
    scale = svg.Scale(0, 10, 100, 200)

    assert [scale(value) for value in (0, 5, 10, 20)] == [100, 150, 200, 200]


def test_a_logarithmic_scale_gives_every_decade_the_same_room():
    scale = svg.Scale(1, 1000, 0, 300, log=True)

    assert [scale(value) for value in (1, 10, 100, 1000)] == pytest.approx([0, 100, 200, 300])


@pytest.mark.parametrize(
    ("low", "high", "log"), [(0, 1, False), (0.05, 0.28, False), (3, 4e5, True), (0.8, 7, True), (1e-9, 1, True)]
)
def test_ticks_are_few_and_inside(low, high, log):
    ticks = svg.Scale(low, high, 0, 1, log).ticks()

    assert 2 <= len(ticks) <= 8
    assert all(low * 0.999 <= tick <= high * 1.001 for tick in ticks)


def test_text_is_escaped():
    assert "<script>" not in svg.text(0, 0, "<script>")
    assert "&lt;script&gt;" in svg.titled("<script>", [])


def test_long_names_keep_their_start_and_most_of_their_end():
    assert svg.shorten("short", 60) == "short"
    cut = svg.shorten("backbone.block.weight", 90)
    assert svg.text_width(cut) <= 90
    assert (cut[:2], cut[-6:]) == ("ba", "weight")


def test_wide_letters_are_cut_sooner_than_narrow_ones():
    wide, narrow = (svg.shorten(letter * 300, 200) for letter in "Wl")

    assert len(wide) < len(narrow) / 2
    assert svg.shorten("W", 0) == "…"


def test_labels_of_an_axis_never_touch():
    scale = svg.Scale(0.1031, 0.1149, 56, 352)

    drawn = svg.bottom_axis(scale, 0, 100, "milliseconds", lambda value: f"{value:.6f}")
    places = [float(x) for x in re.findall(r'<text x="([\d.]+)" y="117"', drawn)]

    assert len(places) >= 2
    assert min(right - left for left, right in itertools.pairwise(places)) > svg.text_width("0.110000")
