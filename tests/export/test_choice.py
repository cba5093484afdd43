"""Kernels are chosen by measurement among those that formats permit."""

import itertools

import numpy as np
import pytest
from kernel_cases import PRUNED, SHAPES, TEXT

from toolchain.export import TARGETS, Wish, choose_kernels, could_be_int8, write_model
from toolchain.export import choice as choice_module
from toolchain.export.choice import _Bench
from toolchain.export.kernels import KERNELS
from toolchain.export.layers import find_layers, sample_values, time_layer, with_activations

SAMPLE = {"x": np.random.default_rng(0).standard_normal((1, 4, 8, 8)).astype(np.float32)}


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(choice_module, "_SECONDS", 0.1)
    monkeypatch.setattr(choice_module, "_FLIP_SECONDS", 0.5)
    monkeypatch.setattr(choice_module, "_ALONE_SECONDS", 0.04)


def test_without_a_grid_everything_stays_float_and_says_why(build, compress):
    module = build(TEXT, SHAPES)
    compress(module, 0.3, None)
    chosen = choose_kernels(module, SAMPLE, Wish())
    assert {name: item.kernel for name, item in chosen.items()} == {"conv": "float", "fc": "float"}
    assert chosen["fc"].reason == "its weight is on no grid; its zeros do not lie in channels of groups"


def test_every_compressed_node_gets_a_permitted_kernel_and_a_measured_reason(build, compress):
    module = build(TEXT, SHAPES)
    compress(module, 0.3, PRUNED)
    formats = dict(module.formats)
    chosen = choose_kernels(module, SAMPLE, Wish())
    assert {name: set(item.alone_ms) for name, item in chosen.items()} == {
        "conv": {"float", "int8"},
        "fc": {"float", "int8", "nbits", "dynamic"},
    }
    assert all("ms" in item.reason for item in chosen.values())
    assert module.formats == formats


def test_the_fastest_kernels_are_taken_where_the_whole_is_faster_by_them(build, compress, monkeypatch):
    module = build(TEXT, SHAPES)
    compress(module, 0.3, PRUNED)
    monkeypatch.setattr(  # of a layer's kernels, in the order of ``KERNELS``
        "toolchain.export.layers.time_interleaved", lambda sessions, *_: [2.0, 1.0, 3.0, 0.5][: len(sessions)]
    )
    monkeypatch.setattr(  # of whole models: in float, with the fastest kernels, and others
        choice_module, "time_interleaved", lambda sessions, *_: [1.0, 0.5, *[0.7] * len(sessions)][: len(sessions)]
    )
    chosen = choose_kernels(module, SAMPLE, Wish())
    assert {name: item.kernel for name, item in chosen.items()} == {"conv": "int8", "fc": "dynamic"}
    assert chosen["conv"].reason == "int8 2.0x faster than float (2.00 -> 1.00 ms)"


def test_an_asked_for_kernel_is_taken_where_it_is_possible(build, compress):
    module = build(TEXT, SHAPES)
    compress(module, 0.3, PRUNED)
    chosen = choose_kernels(module, SAMPLE, Wish("nbits"))
    assert chosen["fc"].kernel == "nbits"
    assert chosen["conv"].kernel == "float"
    assert "no MatMulNBits for Conv" in chosen["conv"].reason


def test_a_layer_is_timed_by_every_kernel_that_its_format_permits(build, compress):
    module = build(TEXT, SHAPES)
    compress(module, 0.3, PRUNED)
    layers = find_layers(module)
    values = sample_values(module, layers, SAMPLE)
    assert [set(time_layer(module, layer, values, threads=1, seconds=0.02)) for layer in layers] == [
        {"float", "int8"},
        {"float", "int8", "nbits", "dynamic"},
    ]


def test_float_is_kept_when_nothing_is_clearly_faster(build, compress, monkeypatch):
    module = build(TEXT, SHAPES)
    compress(module, 0.3, PRUNED)
    monkeypatch.setattr(
        choice_module, "time_interleaved", lambda sessions, _feeds, _seconds: [1.0] + [0.99] * (len(sessions) - 1)
    )
    chosen = choose_kernels(module, SAMPLE, Wish())
    assert {item.kernel for item in chosen.values()} == {"float"}


def test_where_no_file_with_other_kernels_can_be_written_the_reason_says_why(build, compress):
    scaler = "[scale] r = ImageScaler <bias = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0], scale = 2.0> (c)"
    text = TEXT.replace(": 17]", ": 9]").replace("[relu] r = Relu (c)", scaler).replace("(f, w2)", "(f, w2, b2)")
    module = build(text, {**SHAPES, "b2": (32,)})
    compress(module, 1.0, PRUNED)
    chosen = choose_kernels(module, SAMPLE, Wish())
    assert {name: item.kernel for name, item in chosen.items()} == {"conv": "float", "fc": "float"}
    for item in chosen.values():
        assert item.reason.startswith("nothing else can be written: the chosen kernels need opset ")
        assert item.reason.endswith("cannot be raised: ONNX has no operator ImageScaler")
        assert not item.alone_ms


def test_a_portable_file_has_standard_operators_of_opset_18_at_most(build, compress):
    module = build(TEXT, SHAPES)
    compress(module, 0.3, PRUNED)
    chosen = choose_kernels(module, SAMPLE, Wish("nbits", target="portable"))
    assert {item.kernel for item in chosen.values()} == {"float"}
    assert "MatMulNBits is no standard operator" in chosen["fc"].reason
    assert max(kernel.opset for name, kernel in KERNELS.items() if name not in TARGETS["portable"].without) <= 18


def test_without_the_targets_provider_kernels_follow_rules_and_say_so(build, compress):
    module = build(TEXT, SHAPES)
    compress(module, 0.3, PRUNED)
    chosen = choose_kernels(module, SAMPLE, Wish(target="tensorrt"))
    assert {item.kernel for item in chosen.values()} == {"float"}
    assert "zero point" in chosen["conv"].reason
    chosen = choose_kernels(module, SAMPLE, Wish(target="cuda"))
    if TARGETS["cuda"].can_be_timed:
        pytest.skip("the runtime has CUDA here, and kernels are timed on it")
    assert chosen["fc"].kernel == "nbits"
    assert chosen["fc"].reason == "not measured: the installed ONNX Runtime has no CUDAExecutionProvider"
    point = build(TEXT.replace("<pads = [1, 1, 1, 1]>", ""), {**SHAPES, "w1": (8, 4, 1, 1)})
    compress(point, 0.3, PRUNED)
    assert choose_kernels(point, SAMPLE, Wish(target="cuda"))["conv"].kernel == "float"


def test_float_activations_are_wanted_or_needed(build, compress):
    module = build(TEXT, SHAPES)
    compress(module, 0.3, PRUNED)
    assert could_be_int8(module, Wish()) == ("conv", "fc")
    assert could_be_int8(module, Wish(activations="none")) == ()
    chosen = choose_kernels(module, SAMPLE, Wish("int8"), {"conv": "it hurts"})
    assert chosen["conv"].reason.startswith("it hurts")
    assert {name: item.kernel for name, item in chosen.items()} == {"conv": "float", "fc": "int8"}


def test_the_smallest_file_is_taken_where_size_is_the_objective(build, compress):
    module = build(TEXT, SHAPES)
    compress(module, 0.3, PRUNED)
    chosen = choose_kernels(module, SAMPLE, Wish(objective="size"))
    kernels = {name: item.kernel for name, item in chosen.items()}
    layers = find_layers(module)
    values = sample_values(module, layers, SAMPLE)
    sizes = [
        write_model(with_activations(module, mix, values), mix).proto.ByteSize()
        for mix in (kernels, {}, {"conv": "int8", "fc": "int8"}, {"fc": "nbits"})
    ]
    assert sizes[0] <= 1.01 * min(sizes)


def test_layers_change_in_place_where_the_whole_becomes_faster(build, compress, monkeypatch):
    module = build(TEXT, SHAPES)
    compress(module, 0.3, PRUNED)
    bench = _Bench(module, find_layers(module), SAMPLE, Wish())
    monkeypatch.setattr(choice_module, "time_interleaved", lambda *_: [1.0, 0.9])
    plain = {"w1": "float", "w2": "float"}
    alone = {"w1": {"float": 2.0, "int8": 1.0}, "w2": {"float": 1.0, "int8": 2.0, "nbits": 0.5}}
    assert bench._improve(plain, bench._load(plain), alone)[0] == {"w1": "int8", "w2": "nbits"}
    monkeypatch.setattr(choice_module, "time_interleaved", lambda *_: [1.0, 1.1])
    assert bench._improve(plain, bench._load(plain), alone)[0] == plain


def test_layers_of_a_resolution_change_together_where_alone_none_would(build, compress, monkeypatch):
    text = (
        '<ir_version: 8, opset_import: ["" : 17]> net (float[N, 8, 6, 6] x) => (float[N, 8, 6, 6] z) '
        "{ [a] y = Conv (x, v) [b] z = Conv (y, w) }"
    )
    module = build(text, {"v": (8, 8, 1, 1), "w": (8, 8, 1, 1)})
    compress(module, 1.0, PRUNED)
    sample = {"x": np.zeros((1, 8, 6, 6), np.float32)}
    bench = _Bench(module, find_layers(module), sample, Wish())
    monkeypatch.setattr(_Bench, "_try", lambda _, assignment: assignment)  # in the place of its session
    monkeypatch.setattr(
        _Bench,
        "_time",
        lambda _, sessions, __: {key: 1.0 + len(set(mix.values())) for key, mix in sessions.items()},
    )
    mixed = {"v": "float", "w": "nbits"}
    alone = {"v": {"float": 1.0, "int8": 2.0}, "w": {"nbits": 1.0, "int8": 2.0}}
    assert bench._improve(mixed, mixed, alone)[0] == {"v": "int8", "w": "int8"}


FIRE = """
<ir_version: 8, opset_import: ["" : 17]>
net (float[N, 8, 6, 6] x) => (float[N, 8, 6, 6] y) {
  [a] p = Conv (x, w1)
  [b] q = Conv (x, w2)
  both = Concat <axis = 1> (p, q)
  [c] y = Conv (both, w3)
}
"""


def test_the_sample_has_ranges_for_every_choice_of_integer_layers(build, compress):
    module = build(FIRE, {"w1": (8, 8, 1, 1), "w2": (8, 8, 1, 1), "w3": (8, 16, 1, 1)})
    compress(module, 1.0, PRUNED)
    sample = {"x": np.random.default_rng(0).standard_normal((1, 8, 6, 6)).astype(np.float32)}
    values = sample_values(module, find_layers(module), sample)
    for chosen in itertools.product(("float", "int8"), repeat=3):
        kernels = dict(zip("abc", chosen, strict=True))
        write_model(with_activations(module, kernels, values), kernels)
