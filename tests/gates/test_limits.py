import pytest

from toolchain.errors import RecipeError
from toolchain.gates.limits import LIMITS, Gates, option_name, parse_limit, read_gates


def test_a_table_may_hold_every_limit_and_a_device():
    table = {
        "max_drop": 0.5,
        "min_accuracy": "98%",
        "max_size": "2MB",
        "min_ratio": 10,
        "min_speedup": "2x",
        "max_latency": "5ms",
        "max_memory": "300MB",
        "device": "pi",
    }
    assert set(table) == {*LIMITS, "device"}
    assert read_gates(table, "r.toml") == Gates(0.5, 98.0, 2e6, 10.0, 2.0, 5.0, 3e8, "pi")


def test_nothing_is_asked_unless_it_is_said():
    assert read_gates({}, "r.toml").asked == {}
    assert read_gates({"max_drop": 0}, "r.toml").asked == {"max_drop": 0.0}


def test_a_small_number_is_read_as_it_is_written():
    assert read_gates({"max_drop": 1e-7}, "r.toml").max_drop == 1e-7


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ({"max_dropp": 1}, "r.toml: unknown key 'max_dropp'; did you mean max_drop"),
        ({"max_size": 2}, "r.toml: max-size: '2' has no unit"),
        ({"max_size": True}, "r.toml: max_size: got True"),
        ({"max_size": ["2MB"]}, "r.toml: max_size: got"),
        ({"max_latency": float("nan")}, "r.toml: max-latency: 'NaN' is not a time"),
        ({"device": 3}, "r.toml: device: got 3"),
        ({"device": " "}, "r.toml: device: got ' '"),
    ],
)
def test_what_is_not_understood_is_refused_with_its_place(table, says):
    with pytest.raises(RecipeError, match=says):
        read_gates(table, "r.toml")


def test_options_win_over_the_recipe_and_leave_the_rest():
    recipe = Gates(max_drop=1.0, max_size=2e6, device="pi")
    assert Gates(max_drop=0.0).over(recipe) == Gates(max_drop=0.0, max_size=2e6, device="pi")
    assert Gates(device="CUDA").over(recipe).device == "CUDA"


def test_an_option_is_called_as_on_the_command_line_in_errors():
    assert option_name("max_drop") == "max-drop"
    with pytest.raises(RecipeError, match="max-latency: '5' has no unit"):
        parse_limit("max_latency", "5")
