import click
import pytest

from toolchain.amounts import parse_prune
from toolchain.commands.callbacks import numbers, understood_by

CONTEXT = click.Context(click.Command("compress"))


def option(name):
    return click.Option([f"--{name}"])


def test_what_a_parser_understands_is_handed_on_as_it_is():
    check = understood_by(parse_prune)
    assert check(CONTEXT, option("prune"), "36x") == "36x"
    assert check(CONTEXT, option("prune"), None) is None
    with pytest.raises(click.BadParameter, match="prune"):
        check(CONTEXT, option("prune"), "some")


@pytest.mark.parametrize(
    ("text", "values"), [(None, ()), ("0.5", (0.5,)), ("1/255", (1 / 255,)), ("1, 2,3/4", (1.0, 2.0, 0.75))]
)
def test_numbers_may_be_fractions(text, values):
    assert numbers(CONTEXT, option("mean"), text) == pytest.approx(values)


@pytest.mark.parametrize("text", ["a", "1,,2", "1/0", "1/2/3"])
def test_what_is_no_number_is_refused(text):
    with pytest.raises(click.BadParameter, match="not a list of numbers"):
        numbers(CONTEXT, option("std"), text)


def test_inputs_are_scaled_by_one_number():
    assert numbers(CONTEXT, option("scale"), "1/4") == (0.25,)
    with pytest.raises(click.BadParameter, match="not one number"):
        numbers(CONTEXT, option("scale"), "1,2")
