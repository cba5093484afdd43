import pytest

from toolchain.augmentation import NONE, SHIFT, Augmentation, parse_augment
from toolchain.errors import RecipeError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("none", NONE),
        ("shift", SHIFT),
        ("Shift4", Augmentation(4)),
        ("flip", Augmentation(0, flip=True)),
        ("flip, shift2", Augmentation(2, flip=True)),
    ],
)
def test_names_are_read_and_written(text, expected):
    assert parse_augment(text) == expected
    assert parse_augment(str(expected)) == expected


def test_auto_leaves_it_to_the_model_and_the_data():
    assert parse_augment("auto") is None


def test_variants_are_counted():
    assert [item.variants for item in (NONE, SHIFT, Augmentation(4), Augmentation(1, flip=True))] == [1, 9, 81, 18]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("flipp", "'flipp' is not known; did you mean flip"),
        ("", "'' is not known"),
        ("shift0", "shift0 must shift by 1 to 64 pixels"),
        ("shift65", "1 to 64"),
        ("shift,shift4", "shift4 does not go together with the rest"),
        ("flip,flip", "flip does not go together"),
        ("auto,flip", "auto does not go together"),
        ("none,flip", "none does not go together"),
    ],
)
def test_what_is_no_augmentation_is_refused_with_a_hint(text, message):
    with pytest.raises(RecipeError, match=message) as caught:
        parse_augment(text)
    assert "shift4,flip" in caught.value.hint
