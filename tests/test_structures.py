import pytest

from toolchain.errors import RecipeError
from toolchain.graph.layout import Layout
from toolchain.structures import GROUPS, Structure, bounds, group_count, objection, parse_structure

CONV = Layout((64, 64, 3, 3), 0, 1, (2, 3))
DEPTHWISE = Layout((64, 1, 3, 3), 0, 1, (2, 3), groups=64)
MATRIX = Layout((9216, 4096), 1, 0)
VECTOR = Layout((1, 40), 0, 1)


@pytest.mark.parametrize("text", ["unstructured", "filter", "column", "2:4", "3:7", "block4x1", "pattern", "groups"])
def test_a_structure_is_written_as_it_is_read(text):
    assert str(parse_structure(text.upper())) == text


def test_groups_may_name_the_multiple_of_their_channels():
    assert parse_structure("groups8") == Structure("groups", (8, 1))
    assert str(parse_structure("groups8")) == "groups8"
    assert parse_structure("channel") == Structure("channel", (8, 1))
    assert str(parse_structure("channel8")) == "channel"
    assert str(parse_structure("channel1")) == "channel1"
    assert parse_structure("filter4") == Structure("filter", (4, 1))
    assert parse_structure("groups16") == GROUPS


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("colunm", "not a known structure; did you mean column"),
        ("kernels", "not a known structure"),
        ("4:4", "must keep fewer than all of 4"),
        ("0:4", "must keep fewer"),
        ("block1x1", "no block of several weights"),
        ("block0x4", "no block of several weights"),
        ("groups0", "multiples of nothing"),
    ],
)
def test_what_is_no_structure_is_refused(text, message):
    with pytest.raises(RecipeError, match=message):
        parse_structure(text)


@pytest.mark.parametrize(
    ("text", "layout", "reason"),
    [
        ("2:4", Layout((8, 6), 0, 1), "its 6 inputs are no multiple of 4"),
        ("2:4", DEPTHWISE, "its 1 inputs are no multiple of 4"),
        ("pattern", Layout((8, 8, 1, 1), 0, 1, (2, 3)), "no 3x3 kernels"),
        ("pattern", MATRIX, "no 3x3 kernels"),
        ("groups", DEPTHWISE, "it has groups already"),
        ("groups", Layout((2, 64, 64), 2, 1), "it is a stack of 2 matrices"),
        ("groups", Layout((64, 3, 7, 7), 0, 1, (2, 3)), "fewer than 32 inputs or outputs are too few"),
        ("column", VECTOR, "a column of it is a single weight"),
        ("column", DEPTHWISE, "a column of it is a single weight"),
        ("block4x64", Layout((4, 64), 0, 1), "it is a single block"),
        ("column", None, "different layouts"),
    ],
)
def test_a_structure_that_cannot_apply_says_why(text, layout, reason):
    assert reason in objection(parse_structure(text), layout)


@pytest.mark.parametrize(
    ("text", "layout", "expected"),
    [
        ("unstructured", MATRIX, (1, 9216 * 4096)),
        ("column", CONV, (64, 36864)),
        ("block4x1", CONV, (4, 36864)),
        ("2:4", CONV, (18432, 18432)),
        ("1:8", MATRIX, (9216 * 4096 // 8,) * 2),
        ("pattern", CONV, (4, 16384)),
        ("groups", CONV, (64 * 16 * 9, 36864)),
        ("groups4", CONV, (64 * 4 * 9, 36864)),
    ],
)
def test_a_structure_keeps_no_fewer_and_no_more_than_its_bounds(text, layout, expected):
    assert bounds(parse_structure(text), layout) == expected


@pytest.mark.parametrize(
    ("layout", "count"),
    [(CONV, 4), (Layout((32, 64, 1, 1), 0, 1, (2, 3)), 2), (MATRIX, 32), (Layout((100, 64), 0, 1), 1)],
)
def test_the_number_of_groups_follows_the_width(layout, count):
    assert group_count(layout) == count
