"""Models that the checker passes, and that ask for more than any machine has; no mutation would find them."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from seeds import CALLS, HEAD, VALID, fill

CONSTANTS = """int64[2] sizes = {1152921504606846976,2}, int64[1] size = {1152921504606846976},
int64[2] large = {16384,1048576}, int64[4] ranks = {1,1,2,2}, int64[1] first = {0}, int64 none = {0}, int64 one = {1},
int64 many = {2147483648}, float[2,2] matrix = {1,2,3,4}, float row = {1}, float[2] pair = {0,1}, bool yes = {1}"""


def _loop(inputs: str, after: str, then: str) -> str:
    """Return a loop over one value, which is called now."""
    head = "body = step (int64 turn, bool before, float[r,c] now) => (bool after, float[r,c] next)"
    return f"result = Loop ({inputs}) <{head} {{ after = Identity ({after})  next = {then} }}>"


FOUR = "four = Reshape (given, ranks)"
BODIES = {
    "constant_of_shape": "result = ConstantOfShape (sizes)",
    "constant_of_shape_that_fits_an_address": "result = ConstantOfShape (large)",
    "expand": "result = Expand (row, sizes)",
    "expand_and_copy": "wide = Expand (row, large)  result = Relu (wide)",
    "expand_without_end": "wide = Expand (row, large)  result = Expand (wide, sizes)",
    "tile": "result = Tile (given, sizes)",
    "pad": "border = Concat <axis = 0> (sizes, sizes)  result = Pad (given, border)",
    "resize": "result = Resize (given, , , sizes)",
    "reshape": "result = Reshape (given, sizes)",
    "range": "last = Squeeze (size)  result = Range (none, last, one)",
    "range_that_fits_an_address": "whole = Range (none, many, one)  result = Cast <to = 1> (whole)",
    "one_hot": "where = Cast <to = 7> (given)  result = OneHot (where, size, pair)",
    "random": "result = RandomNormal <shape = [1099511627776, 2]> ()",
    "window": "result = HannWindow (size)",
    "top_k": "result, places = TopK (given, size)",
    "split": "result, rest = Split <num_outputs = 2, axis = 1152921504606846976> (given)",
    "unsqueeze": "result = Unsqueeze (given, sizes)",
    "max_pool": f"{FOUR}  result = MaxPool <kernel_shape = [4611686018427387904, 2]> (four)",
    "pads": f"{FOUR}  result = MaxPool <kernel_shape = [2,2], pads = [1073741824,0,1073741824,0]> (four)",
    "transposed_convolution": f"{FOUR}  result = ConvTranspose <output_shape = [1073741824, 1073741824]> (four, four)",
    "lstm": "three = Unsqueeze (given, first)  result = LSTM <hidden_size = 4611686018427387904> (three, three, three)",
    "depth_to_space": f"{FOUR}  result = DepthToSpace <blocksize = 4294967296> (four)",
    "hidden_weight": "wide = Expand (row, large)  result = MatMul (given, wide)",
    "hidden_weight_without_end": "wide = Expand (row, sizes)  result = MatMul (given, wide)",
    "endless_loop": _loop(", yes, given", "before", "Neg (now)"),
    "loop_of_ages": _loop("size, , given", "yes", "Neg (now)"),
    "growing_loop": _loop("size, , given", "yes", "Concat <axis = 0> (now, now)"),
    "hidden_behind_a_loop": f"turned = Transpose (matrix)  other = MatMul (given, turned)  "
    f"{_loop('size, , other', 'yes', 'Neg (now)')}",
}


def absurd() -> dict[str, dict[str, bytes]]:
    """Return models by name that pass the checker and ask for more than any machine has."""
    head = f"{HEAD} net (float[2,2] given) => (float[r,c] result) <{CONSTANTS}>"
    models = {name: onnx.parser.parse_model(f"{head} {{ {body} }}") for name, body in BODIES.items()}
    models["laughs"] = _laughs(40)
    models["large_input"] = onnx.parser.parse_model(
        HEAD + VALID["folded"].replace("float[2,4] given", "float[17179869184,4] given")
    )
    fill(models["large_input"])
    models["sparse_giant"] = _sparse_giant()
    models["nested"] = _nested(30)
    models["chain"] = _chain(2000)
    files = {name: {"model.onnx": model.SerializeToString()} for name, model in models.items()}
    return files | {"copies": _copies(400)}


def _laughs(levels: int) -> onnx.ModelProto:
    """Return a model whose functions each call the next one twice."""
    text = "net (float[2] given) => (float[2] result) { result = local.level0 (given) }"
    for level in range(levels):
        text += f'\n<domain: "local", opset_import: ["" : 21, "local" : 1]>\nlevel{level} (value) => (twice)'
        text += f" {{ once = local.level{level + 1} (value)  twice = local.level{level + 1} (once) }}"
    text += f'\n<domain: "local", opset_import: ["" : 21]>\nlevel{levels} (value) => (more) {{ more = Neg (value) }}'
    return onnx.parser.parse_model(CALLS + text)


def _sparse_giant() -> onnx.ModelProto:
    """Return a model with a sparse weight of 12 GiB in a few bytes."""
    model = onnx.parser.parse_model(
        HEAD + "net (float[2,57344] given) => (float[r,c] result) { result = MatMul (given, weight) }"
    )
    values = numpy_helper.from_array(np.ones(1, np.float32), "weight")
    places = numpy_helper.from_array(np.zeros(1, np.int64))
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, places, [57344, 57344]))
    return model


def _nested(levels: int) -> onnx.ModelProto:
    """Return a model of branches in branches, as deep as protobuf reads them."""
    text = "{ inner0 = Neg (given) }"
    for level in range(1, levels):
        branches = f"then_branch = yes{level} () => (float[2] inner{level - 1}) {text}"
        branches += f", else_branch = no{level} () => (float[2] other{level}) {{ other{level} = Abs (given) }}"
        text = f"{{ inner{level} = If (choice) <{branches}> }}"
    return onnx.parser.parse_model(f"{HEAD} net (float[2] given, bool choice) => (float[2] inner{levels - 1}) {text}")


def _chain(length: int) -> onnx.ModelProto:
    """Return a model of many nodes without names, one after the other."""
    steps = "  ".join(f"value{place + 1} = Neg (value{place})" for place in range(length))
    return onnx.parser.parse_model(f"{HEAD} net (float[2] value0) => (float[2] value{length}) {{ {steps} }}")


def _copies(count: int) -> dict[str, bytes]:
    """Return a model whose weights all are the same megabyte of a file."""
    steps = "  ".join(f"value{place + 1} = MatMul (value{place}, weight{place})" for place in range(count))
    model = onnx.parser.parse_model(f"{HEAD} net (float[1,512] value0) => (float[1,512] value{count}) {{ {steps} }}")
    for place in range(count):
        weight = TensorProto(name=f"weight{place}", data_type=1, dims=[512, 512], data_location=TensorProto.EXTERNAL)
        weight.external_data.add(key="location", value="weights.bin")
        model.graph.initializer.append(weight)
    return {"model.onnx": model.SerializeToString(), "weights.bin": bytes(2**20)}
