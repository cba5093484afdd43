"""The whole models that are timed: what comes first, and what is left out."""

from kernel_cases import PRUNED, SHAPES, TEXT

from toolchain.export.assignments import candidates, joint_flips, single_flips
from toolchain.export.layers import find_layers


def test_candidates_begin_with_float_and_do_not_repeat(build, compress):
    module = build(TEXT, SHAPES)
    compress(module, 0.3, PRUNED)
    alone = {"w1": {"float": 1.0, "int8": 2.0}, "w2": {"float": 3.0, "int8": 2.0, "nbits": 1.0, "dynamic": 4.0}}
    assert candidates(find_layers(module), alone) == [
        {"w1": "float", "w2": "float"},
        {"w1": "float", "w2": "nbits"},
        {"w1": "int8", "w2": "nbits"},
        {"w1": "int8", "w2": "int8"},
        {"w1": "float", "w2": "dynamic"},
        {"w1": "int8", "w2": "dynamic"},
    ]


def test_convolutions_that_are_slow_alone_are_tried_in_integers_by_the_fastest_of_their_kernels(build, compress):
    module = build(TEXT, SHAPES)
    compress(module, 0.3, PRUNED)
    alone = {"w1": {"float": 1.0, "int8": 3.0, "gathered_int8": 2.0}, "w2": {"float": 1.0, "int8": 2.0}}
    assert {"w1": "gathered_int8", "w2": "float"} in candidates(find_layers(module), alone)


def test_a_1x1_convolution_is_tried_as_matmulnbits_where_it_cannot_be_an_integer_one(build, compress):
    module = build(TEXT.replace("<pads = [1, 1, 1, 1]>", ""), {**SHAPES, "w1": (8, 4, 1, 1)})
    compress(module, 0.3, PRUNED)
    matrix = {"float": 2.0, "int8": 3.0, "nbits": 1.0}
    point = {"float": 1.0, "int8": 2.0, "nbits": 2.0}
    found = candidates(find_layers(module), {"w1": point, "w2": matrix})
    assert {"w1": "int8", "w2": "nbits"} in found
    del point["int8"], matrix["int8"]
    assert {"w1": "nbits", "w2": "nbits"} in candidates(find_layers(module), {"w1": point, "w2": matrix})


ALONE = {"a": {"float": 3.0, "int8": 1.0}, "b": {"float": 3.0, "int8": 4.0}, "c": {"float": 2.0, "int8": 1.5}}
FLOATS = dict.fromkeys(ALONE, "float")


def test_single_changes_are_those_that_gain_alone_most_first():
    assert single_flips(FLOATS, ALONE) == [{"a": "int8"}, {"c": "int8"}]
    assert single_flips({**FLOATS, "a": "int8"}, ALONE) == [{"c": "int8"}]


def test_layers_of_a_group_change_to_one_kernel_even_where_some_lose_alone_the_best_first():
    changes = joint_flips([["a", "b"], ["c"]], FLOATS, ALONE)
    assert changes == [{"a": "int8", "b": "int8"}]
    alone = {name: {**times, "nbits": 2.5} for name, times in ALONE.items()}
    assert joint_flips([["a", "b"]], FLOATS, alone) == [dict.fromkeys("ab", "int8"), dict.fromkeys("ab", "nbits")]
    assert joint_flips([["a", "b"]], {"a": "int8", "b": "float"}, ALONE) == [{"b": "int8"}, {"a": "float"}]
