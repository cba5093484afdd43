from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolchain.amounts import QUANT_SPECS, QuantSpec, parse_duration, parse_prune, parse_quant
from toolchain.errors import RecipeError


@pytest.mark.parametrize(
    ("text", "kept"),
    [("36x", 278), ("36X", 278), (" 36 x", 278), ("97%", 300), ("97.25 %", 275), ("0.97", 300), (".97", 300)],
)
def test_every_spelling_gives_its_count_of_kept_weights(text, kept):
    assert parse_prune(text).kept(10_000) == kept


@given(st.integers(1, 10**10), st.integers(101, 100_000))
def test_a_ratio_keeps_the_nearest_whole_number_of_weights(total, hundredths):
    kept = parse_prune(f"{hundredths / 100}x").kept(total)
    assert abs(kept - Fraction(100 * total, hundredths)) <= Fraction(1, 2)


@given(st.integers(1, 10**10), st.integers(1, 9_999))
def test_a_percentage_and_its_fraction_give_the_same_exact_count(total, basis_points):
    kept = parse_prune(f"{basis_points / 100:.2f}%").kept(total)
    assert kept == parse_prune(f"{basis_points / 10_000:.4f}").kept(total)
    assert abs((total - kept) - Fraction(basis_points * total, 10_000)) <= Fraction(1, 2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1x", "prunes nothing"),
        ("0.5x", "prunes nothing"),
        ("0x", "prunes nothing"),
        ("0%", "prunes nothing"),
        ("0", "prunes nothing"),
        ("0.0", "prunes nothing"),
        ("100%", "leaves no weight"),
        ("250%", "leaves no weight"),
        ("1.0", "leaves no weight"),
        ("-36x", "negative"),
        ("-0.5", "negative"),
        ("nan", "not an amount"),
        ("inf", "not an amount"),
        ("", "not an amount"),
        ("lots", "not an amount"),
        ("36x36", "not an amount"),
        ("1e2x", "not an amount"),
    ],
)
def test_an_amount_that_means_nothing_is_refused_with_a_hint(text, message):
    with pytest.raises(RecipeError, match=message) as caught:
        parse_prune(text)
    assert "36x" in caught.value.hint


def test_a_bare_number_above_one_is_ambiguous_and_both_readings_are_offered():
    with pytest.raises(RecipeError, match="ambiguous") as caught:
        parse_prune("36")
    assert "36x" in caught.value.hint
    assert "36%" in caught.value.hint


def test_a_bare_number_that_can_only_be_a_ratio_is_not_offered_as_a_percentage():
    with pytest.raises(RecipeError, match="ambiguous") as caught:
        parse_prune("100")
    assert "100x" in caught.value.hint
    assert "%" not in caught.value.hint


@pytest.mark.parametrize(
    "text", [*QUANT_SPECS, "auto", "4bit,asymmetric,block32", "3bit,power", "2bit,tensor", "binary,block64"]
)
def test_every_grid_prints_as_it_is_spelled(text):
    assert str(parse_quant(text)) == text


def test_grids_say_their_family_and_bits():
    assert parse_quant("2bit") == QuantSpec("uniform", 2)
    assert parse_quant(" Ternary ") == QuantSpec("ternary", 2)
    assert parse_quant("binary") == QuantSpec("binary", 1)


@pytest.mark.parametrize("text", ["7bit", "int8", "", "2"])
def test_an_unknown_grid_is_refused_and_the_known_ones_are_listed(text):
    with pytest.raises(RecipeError, match="not a known grid") as caught:
        parse_quant(text)
    assert "2bit" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("4bit,assymetric", "did you mean asymmetric"),
        ("ternary,asymmetric", "only grids of equal steps"),
        ("6bit,power", "2 to 4 bits"),
        ("4bit,asymmetric,power", "both sides"),
        ("4bit,tensor,block32", "twice"),
        ("auto,tensor", "auto"),
        ("4bit,block2", "8 to 4096"),
    ],
)
def test_words_that_do_not_go_together_are_refused(text, message):
    with pytest.raises(RecipeError, match=message):
        parse_quant(text)


def test_words_behind_a_grid_may_come_in_any_order_and_case():
    assert parse_quant("4bit, Block32, asymmetric") == QuantSpec("uniform", 4, True, "block", 32)
    assert parse_quant("4bit,channel") == parse_quant("4bit")


def test_a_misspelled_grid_is_answered_with_the_nearest():
    with pytest.raises(RecipeError, match=r"did you mean ternary"):
        parse_quant("ternery")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("10m", 600), ("90s", 90), ("1h30m", 5400), ("1h 30m 5s", 5405), ("2.5", 2.5), ("90", 90), ("0.5h", 1800)],
)
def test_durations_are_read_as_people_write_them(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "m", "10 minutes", "-5s", "nan", "inf", "0", "0h0m", "30m1h"])
def test_what_is_not_a_duration_is_refused(text):
    with pytest.raises(RecipeError, match="budget"):
        parse_duration(text)
