import pytest

from toolchain.errors import RecipeError
from toolchain.gates.amounts import UNITS


@pytest.mark.parametrize(
    ("unit", "text", "value"),
    [
        ("bytes", "2MB", 2e6),
        ("bytes", "500 kb", 5e5),
        ("bytes", "1.5MiB", 1.5 * 2**20),
        ("bytes", "800B", 800),
        ("ms", "5ms", 5),
        ("ms", "0.2s", 200),
        ("ms", "300us", 0.3),
        ("factor", "2x", 2),
        ("factor", ".5", 0.5),
        ("factor", "1e1X", 10),
        ("points", "0.5", 0.5),
        ("points", "0", 0),
        ("points", "-1.5", -1.5),
        ("percent", "98%", 98),
        ("percent", "0.98", 98),
        ("percent", "1", 100),
    ],
)
def test_a_threshold_is_read_in_its_unit(unit, text, value):
    assert UNITS[unit].parse(text) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize(
    ("unit", "text", "says"),
    [
        ("bytes", "2", "has no unit"),
        ("bytes", "2 megabytes", "is not a size"),
        ("bytes", "0MB", "must be above zero"),
        ("bytes", "-2MB", "is not a size"),
        ("bytes", "1e400MB", "must be above zero and finite"),
        ("bytes", "nanMB", "is not a size"),
        ("ms", "5", "has no unit"),
        ("ms", "5m", "is not a time"),
        ("factor", "0x", "must be above zero"),
        ("factor", "", "is not a factor"),
        ("points", "0.5%", "points are differences"),
        ("points", "--1", "is not a number of points"),
        ("percent", "98", "more than 100 %"),
        ("percent", "101%", "more than 100 %"),
        ("percent", "most", "is not an accuracy"),
    ],
)
def test_what_is_no_threshold_is_refused_with_an_example(unit, text, says):
    with pytest.raises(RecipeError, match=says) as caught:
        UNITS[unit].parse(text)
    assert caught.value.hint.startswith("write ")
