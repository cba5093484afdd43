"""Every registered operator against the official node cases that the onnx wheel carries."""

import warnings
from collections import defaultdict
from fnmatch import fnmatchcase

import numpy as np
import onnx
import pytest
import torch
from onnx.backend.test.loader import load_model_tests

from toolchain.errors import ToolchainError
from toolchain.graph import MIN_OPSET, load_graph
from toolchain.module import OnnxModule
from toolchain.ops import registered, to_numpy

ROUNDING = "half precision rounds at other places than the reference"
RANDOM = "random output"

# Cases that cannot apply, by name pattern.
EXCLUDED = {
    "test_attention_*_bf16": ROUNDING,
    "test_attention_*_bf16_expanded": ROUNDING,
    "test_attention_4d_fp16": ROUNDING,
    "test_attention_4d_causal_fp16": ROUNDING,
    "test_attention_4d_causal_fp16_expanded": ROUNDING,
    "test_bernoulli*": RANDOM,
    "test_training_dropout": RANDOM,
    "test_training_dropout_mask": RANDOM,
    "test_training_dropout_default*": RANDOM,
    "test_equal_string*": "strings",
    "test_identity_sequence": "a sequence, not a tensor",
    "test_identity_opt": "an optional, not a tensor",
    "test_dft_inverse*": "where 0 is right, 2e-7 is expected, and allowed is half of it",
    "test_resize_downsample_scales_*_align_corners": "ONNX Runtime divides by the rounded size, and so do we",
    "test_maxunpool_export_with_output_shape": "ONNX Runtime takes indices as they are, and so do we",
}

# Operators of ai.onnx without an official case of their own; of com.microsoft none has one, each has tests beside it.
NO_CASE = {
    "GlobalLpPool": "none exists; tests/ops/test_against_onnxruntime.py has one",
    "Bernoulli": RANDOM,
    "MaxRoiPool": "none exists; tests/ops/test_regions.py has one",
    "Multinomial": RANDOM,
    "Not": "those that exist are below opset 7; tests/ops/test_against_onnxruntime.py has one",
    "RandomNormal": RANDOM,
    "RandomNormalLike": RANDOM,
    "RandomUniform": RANDOM,
    "RandomUniformLike": RANDOM,
    "SimplifiedLayerNormalization": "ONNX Runtime's own; tests/ops/test_normalization.py has one",
}


class Cases(defaultdict):
    """Cases by the set of operators that they use."""

    def __repr__(self):
        return "Cases"  # pytest shows it with every failure, and a thousand models take their time


@pytest.fixture(scope="module")
def cases():
    """The official cases whose operators are all registered."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the expected values of some cases overflow as they are computed
        loaded = load_model_tests(kind="node")
    known, found = set(registered()), Cases(list)
    for case in loaded:
        operators = frozenset((n.domain, n.op_type) for n in case.model.graph.node if n.op_type != "Constant")
        opset = next((entry.version for entry in case.model.opset_import if not entry.domain), 0)
        if operators and operators <= known and opset >= MIN_OPSET:
            found[operators].append(case)
    return found


def applies(case):
    return not any(fnmatchcase(case.name, pattern) for pattern in EXCLUDED)


def array(value):
    return onnx.numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else np.asarray(value)


def comparable(values):
    """Return values in a type that numpy itself has."""
    return values if values.dtype.isbuiltin else values.astype(np.float32)


def check(case):
    torch.manual_seed(0)
    graph = load_graph(case.model)
    module = OnnxModule(graph).eval()
    for inputs, outputs in case.data_sets:
        feed = {value.name: array(item) for value, item in zip(graph.inputs, inputs, strict=True)}
        with torch.no_grad():
            results = module(feed)
        for (name, result), expected in zip(results.items(), map(array, outputs), strict=True):
            got = to_numpy(result)
            where = f"{case.name}, output {name!r}"
            assert got.dtype == expected.dtype, where
            np.testing.assert_allclose(
                comparable(got), comparable(expected), rtol=case.rtol, atol=case.atol, err_msg=where
            )


@pytest.mark.parametrize("operator", registered(), ids=lambda key: ".".join(filter(None, key)))
def test_operator_passes_all_its_official_cases(operator, cases):
    applicable = [case for case in cases[frozenset([operator])] if applies(case)]
    for case in applicable:
        check(case)
    without = operator[0] == "com.microsoft" or operator[1] in NO_CASE
    assert bool(applicable) != without, "an operator needs an official case or an entry in NO_CASE"


# Operators whose float results do not depend on their first float input, or only in steps.
NO_GRADIENT = {"Attention", "EyeLike", "Hardmax", "LinearAttention", "MelWeightMatrix", "OneHot", "Range"}


@pytest.mark.parametrize("operator", registered(), ids=lambda key: ".".join(filter(None, key)))
def test_float_results_carry_the_gradient_of_float_inputs(operator, cases):
    applicable = [case for case in cases[frozenset([operator])] if applies(case)]
    for case in applicable:
        module = OnnxModule(load_graph(case.model)).eval()
        feed = {v.name: array(item) for v, item in zip(module.graph.inputs, case.data_sets[0][0], strict=True)}
        source = next((name for name, item in feed.items() if item.dtype == np.float32 and item.size), None)
        if operator[1] in NO_GRADIENT or source is None:
            continue
        tensor = torch.from_numpy(feed[source].copy()).requires_grad_()
        for name, result in module({**feed, source: tensor}).items():
            assert result.requires_grad or not result.is_floating_point(), f"{case.name}, output {name!r}"


def test_cases_of_several_operators_pass(cases):
    several = [case for operators, group in cases.items() if len(operators) > 1 for case in group if applies(case)]
    assert several
    for case in several:
        check(case)


@pytest.mark.parametrize("pattern", EXCLUDED)
def test_an_exclusion_hides_only_cases_that_fail(pattern, cases):
    excluded = [case for group in cases.values() for case in group if fnmatchcase(case.name, pattern)]
    assert excluded
    for case in excluded:
        with pytest.raises((AssertionError, ToolchainError, ValueError)):
            check(case)
