import pytest

from toolchain.bench.explain import failure, operator_of


@pytest.mark.parametrize(
    ("message", "operator"),
    [
        ("Fatal error: com.foo:Bar(-1) is not a registered function/op", "operator com.foo:Bar"),
        ("Could not find an implementation for Relu(14) node with name 'act'", "operator Relu of node 'act'"),
        ("Could not find an implementation for Relu(14) node with name ''", "operator Relu"),
        ("Node (t1) Op (Transpose) [TypeInferenceError] Invalid perm", "operator Transpose of node 't1'"),
        ("while running Reshape node. Name:'r' Status Message: bad", "operator Reshape of node 'r'"),
        (
            "Type 'tensor(int16)' of input parameter (x) of operator (Relu) in node (r) is invalid.",
            "operator Relu of node 'r'",
        ),
        ("Protobuf parsing failed.", ""),
    ],
)
def test_the_operator_and_its_node_are_found_in_the_runtimes_message(message, operator):
    assert operator_of(message) == operator


def test_a_failure_names_model_provider_and_operator_without_the_runtimes_codes():
    error = {
        "stage": "run",
        "message": "[ONNXRuntimeError] : 1 : FAIL : Non-zero status code returned while running Resize node. "
        "Name:'up' Status Message: /onnxruntime_src/core/resize.h:91 no\n such mode",
    }

    assert failure("small.onnx", error, "CUDAExecutionProvider") == (
        "ONNX Runtime cannot run small.onnx on cuda, at operator Resize of node 'up': Non-zero status code returned "
        "while running Resize node. Name:'up' no such mode"
    )


def test_a_failed_allocation_is_called_out_of_memory():
    error = {"stage": "run", "message": "Failed to allocate memory for requested buffer of size 3600000000000"}

    assert "on cpu: out of memory: Failed to allocate" in failure("big.onnx", error, "CPUExecutionProvider")
