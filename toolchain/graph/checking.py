"""What ONNX's checker objects to, and what of it ONNX Runtime does not mind."""

import onnx
from google.protobuf.message import EncodeError

from toolchain.graph.constants import IR_FREE_INITIALIZERS
from toolchain.graph.external import tensors_of

# What files that run do not keep to, above all those that ONNX Runtime's own optimizer saves, as the checker says it.
FORGIVEN = ("No Op registered for", "in initializer but not in graph input", "Field 'shape' of 'type' is required")

# What the checker raises, also from the shape inference that it does for tensors.
OBJECTIONS = (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, RuntimeError, ValueError)

# A domain whose operators the checker does not know.
FOREIGN = "com.microsoft"


def objection_to(model: onnx.ModelProto | bytes) -> str:
    """Return what ONNX's checker objects to; empty for a valid model."""
    try:
        onnx.checker.check_model(model)
    except EncodeError:
        return "it is larger than a protobuf may be, 2 GiB"
    except OBJECTIONS as error:
        return str(error).strip() or type(error).__name__
    return ""


def remaining_objection(proto: onnx.ModelProto, objection: str) -> str:
    """Return the objection that is left when what ONNX Runtime does not mind is put right.

    Its optimizer writes initializers that are no inputs into files of the first IR versions, and fused operators of its
    own, such as LayerNormalization below opset 17, into the domain of ONNX. Shapes of outputs it infers by itself. An
    operator that nobody has is found when the model is resolved.
    """
    if not any(text in objection for text in FORGIVEN):
        return objection
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    for tensor in tensors_of(copy):  # their sizes were not objected to, and their bytes need not be copied again
        for field in ("raw_data", "float_data", "int32_data", "int64_data", "double_data", "uint64_data"):
            tensor.ClearField(field)
        if tensor.data_type != onnx.TensorProto.STRING:
            tensor.dims[:] = [0]
    copy.ir_version = max(copy.ir_version, IR_FREE_INITIALIZERS)
    for value in copy.graph.output:
        if value.type.HasField("tensor_type"):
            value.type.tensor_type.shape.SetInParent()
    version = next((entry.version for entry in copy.opset_import if entry.domain in ("", "ai.onnx")), 1)
    _make_foreign(copy.graph, version)
    if FOREIGN not in {entry.domain for entry in copy.opset_import}:
        copy.opset_import.append(onnx.helper.make_opsetid(FOREIGN, 1))
    return objection_to(copy)


def _make_foreign(graph: onnx.GraphProto, version: int) -> None:
    """Move operators that the version of ONNX does not have into a domain that the checker does not look into."""
    for node in graph.node:
        if node.domain in ("", "ai.onnx") and not onnx.defs.has(node.op_type, version, ""):
            node.domain = FOREIGN
        for attribute in node.attribute:
            for body in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                _make_foreign(body, version)
