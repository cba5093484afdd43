import pytest

from toolchain import units


@pytest.mark.parametrize(
    ("count", "expected"), [(0, "0 B"), (999, "999 B"), (17_200, "17.2 KB"), (1_725_672, "1.73 MB"), (2.5e9, "2.50 GB")]
)
def test_bytes_are_decimal_with_three_digits(count, expected):
    assert units.bytes_text(count) == expected


@pytest.mark.parametrize(
    ("value", "expected"), [(0.0, "0"), (0.01234, "0.0123"), (1.5, "1.50"), (123.4, "123"), (43210.0, "43,210")]
)
def test_significant_digits_never_use_an_exponent(value, expected):
    assert units.significant(value) == expected


def test_long_times_are_in_seconds():
    assert (units.milliseconds(0.1234), units.milliseconds(1234.0)) == ("0.123 ms", "1.23 s")


@pytest.mark.parametrize(
    ("value", "expected"), [(0, "0"), (1e-4, "1e-4"), (0.5, "0.5"), (1000, "1,000"), (20_000, "20 k"), (3e6, "3 M")]
)
def test_tick_labels_are_short(value, expected):
    assert units.short(value) == expected
