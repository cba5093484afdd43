from dataclasses import replace

import pytest

from toolchain.errors import RecipeError
from toolchain.gates.limits import LIMITS, Gates, option_name, parse_limit, read_gates
from toolchain.planning.request import Request, read_request


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


def test_a_request_lays_its_gates_over_those_of_its_recipe(tmp_path):
    (tmp_path / "r.toml").write_text('prune = "2x"\n[gates]\nmax_drop = 1\nmax_size = "2MB"\n')
    asked = Request(recipe=tmp_path / "r.toml", gates={"max_size": "1MB"})
    assert read_request(asked).gates == Gates(max_drop=1.0, max_size=1e6)
    assert read_request(replace(asked, gates=None)).gates == Gates(max_drop=1.0, max_size=2e6)
    with pytest.raises(RecipeError, match="gates: unknown key 'max-size'; did you mean max_size"):
        read_request(replace(asked, gates={"max-size": "1MB"}))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("gates = 3\n", "r.toml: gates must be written as a .gates. table"),
        ('[gates]\nmin_speed = "2x"\n', r"r.toml: \[gates\]: unknown key 'min_speed'; did you mean min_speedup"),
        ('[gates]\nmax_latency = "5"\n', r"r.toml: \[gates\]: max-latency: '5' has no unit"),
    ],
)
def test_a_recipe_with_gates_that_are_not_understood_is_refused_with_the_place(tmp_path, text, says):
    (tmp_path / "r.toml").write_text('prune = "2x"\n' + text)
    with pytest.raises(RecipeError, match=says):
        read_request(Request(recipe=tmp_path / "r.toml"))
