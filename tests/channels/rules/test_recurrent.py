import pytest
from channel_cases import blocked, channels_of, check, model_of, parts, removable

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
SERIES = "float[5,N,4] x"  # time, batch, features


@pytest.mark.parametrize("op", GATES)
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_a_hidden_unit_has_rows_in_every_gate(op, direction):
    gates, both = GATES[op], 2 if direction == "bidirectional" else 1
    channels = check(
        model_of(
            SERIES,
            f'h = {op}<hidden_size=6,direction="{direction}">(x, w, r, b) t = Transpose<perm=[0,2,1,3]>(h) '
            "s = Constant<value_ints=[0,0,-1]>() f = Reshape(t, s) y = MatMul(f, v)",
            w=(both, 6 * gates, 4),
            r=(both, 6 * gates, 6),
            b=(both, 12 * gates),
            v=(6 * both, 3),
        )
    )
    assert removable(channels) == {"w": 6}
    rows = [6 * gate for gate in range(gates)]
    assert ("w", 1, rows) in parts(channels, "w")
    assert ("r", 1, rows) in parts(channels, "w")
    assert ("r", 2, [0]) in parts(channels, "w")
    assert ("b", 1, [6 * gate for gate in range(2 * gates)]) in parts(channels, "w")


def test_initial_states_and_peepholes_go_along():
    channels = check(
        model_of(
            "float[5,2,4] x",
            "h, i, c = LSTM<hidden_size=6>(x, w, r, b, , j, k, p) s = Constant<value_ints=[-1,6]>() "
            "f = Reshape(c, s) y = MatMul(f, v)",
            w=(1, 24, 4),
            r=(1, 24, 6),
            b=(1, 48),
            j=(1, 2, 6),
            k=(1, 2, 6),
            p=(1, 18),
            v=(6, 3),
        ),
        batches=(2,),
    )
    assert {("j", 2), ("k", 2), ("p", 1)} <= {(tensor, axis) for tensor, axis, _ in parts(channels, "w")}


def test_features_that_are_read_belong_to_what_makes_them():
    channels = check(
        model_of(
            SERIES,
            "m = MatMul(x, u) a, h = GRU<hidden_size=6,linear_before_reset=1>(m, w, r) y = MatMul(h, v)",
            u=(4, 5),
            w=(1, 18, 5),
            r=(1, 18, 6),
            v=(6, 3),
        )
    )
    assert removable(channels) == {"u": 5, "w": 6}
    assert parts(channels, "u") == [("u", 1, [0]), ("w", 2, [0])]


def test_a_state_that_is_an_input_keeps_the_units():
    graph = model_of(
        f"{SERIES}, float[1,2,6] j",
        "h = GRU<hidden_size=6>(x, w, r, , , j) y = MatMul(h, v)",
        w=(1, 18, 4),
        r=(1, 18, 6),
        v=(6, 3),
    )
    assert blocked(channels_of(graph))["w"] == "it is of the graph input 'j'"


def test_other_activations_may_make_something_of_zero():
    channels = check(
        model_of(
            SERIES,
            'h = RNN<hidden_size=6,activations=["Sigmoid"]>(x, w, r) y = MatMul(h, v)',
            w=(1, 6, 4),
            r=(1, 6, 6),
            v=(6, 3),
        )
    )
    assert next(group.leak for group in channels.groups if group.name == "w").startswith("'h' is not zero")
