"""What the import fuzzer starts from: small valid models of every kind."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

HEAD = '<ir_version: 10, opset_import: ["" : 21, "com.microsoft" : 1, "ai.onnx.ml" : 4]>\n'
CALLS = '<ir_version: 10, opset_import: ["" : 21, "local" : 1]>\n'

VALID = {
    "convolution": """
net (float[batch,2,6,6] image) => (float[batch,3] score)
<float[4,2,3,3] kernel, float[4] scale = {1,1,1,1}, float[4] shift = {0,1,2,3},
 float[4] mean = {0,1,2,3}, float[4] variance = {1,2,3,4}, float[36,3] dense, float[3] bias>
{ hidden = Conv <pads = [1,1,1,1], group = 1> (image, kernel)
  normal = BatchNormalization (hidden, scale, shift, mean, variance)
  active = Relu (normal)  pooled = MaxPool <kernel_shape = [2,2], strides = [2,2]> (active)
  flat = Flatten (pooled)  score = Gemm <transB = 0, alpha = 1.0> (flat, dense, bias) }""",
    "attention": """
net (int64[batch,4] tokens) => (float[batch,4,8] output)
<float[10,8] table, float[8,8] query, float[8,8] key, float[8] gain = {1,1,1,1,1,1,1,1}, int64[4] split = {0,0,2,4}>
{ embedded = Gather (table, tokens)  asked = MatMul (embedded, query)  known = MatMul (embedded, key)
  heads = Reshape (asked, split)  others = Reshape (known, split)
  first = Transpose <perm = [0,2,1,3]> (heads)  second = Transpose <perm = [0,2,3,1]> (others)
  product = MatMul (first, second)  weight = Softmax <axis = -1> (product)
  mixed = Einsum <equation = "bhqk,bkhd->bqhd"> (weight, heads)  shape = Shape (embedded)
  joined = Reshape (mixed, shape)  total = Add (joined, embedded)
  output = LayerNormalization <axis = -1, epsilon = 0.00001> (total, gain) }""",
    "recurrent": """
net (float[5,batch,3] frames) => (float[batch,4] result)
<float[1,16,3] input_gates, float[1,16,4] hidden_gates, float[1,12,4] gru_input, float[1,12,4] gru_hidden,
 float[1,4,4] plain, int64[1] direction = {1}, int64[1] leading = {0}>
{ sequence, last, cell = LSTM <hidden_size = 4, direction = "forward"> (frames, input_gates, hidden_gates)
  dropped = Squeeze (sequence, direction)  again, state = GRU <hidden_size = 4> (dropped, gru_input, gru_hidden)
  merged = Squeeze (again, direction)  unused, final = RNN <hidden_size = 4> (merged, plain, plain)
  result = Squeeze (final, leading) }""",
    "branch": """
net (float[2,3] value, bool choice) => (float[2,3] result) <float[3,3] outer>
{ result = If (choice) <
    then_branch = yes () => (float[2,3] left) <float[3,3] inner>
      { half = MatMul (value, inner) left = MatMul (half, outer) },
    else_branch = no () => (float[2,3] right) { even = Neg (value)  right = Relu (even) }> }""",
    "loop": """
net (float[2] start) => (float[2] final, float[times,2] history)
<int64 count = {3}, bool always = {1}, float[2] stride = {1,2}>
{ final, history = Loop (count, always, start) <
    body = step (int64 turn, bool before, float[2] current) => (bool after, float[2] next, float[2] shown)
    { after = Identity (before)  next = Add (current, stride)  shown = Mul (next, stride) }> }""",
    "scan": """
net (float[2] first, float[5,2] series) => (float[2] last, float[5,2] sums)
{ last, sums = Scan <num_scan_inputs = 1, scan_input_axes = [0], scan_output_axes = [0],
    body = step (float[2] state, float[2] item) => (float[2] grown, float[2] seen)
    { grown = Add (state, item)  seen = Identity (grown) }> (first, series) }""",
    "shapes": """
net (float[batch,4] given) => (float[a,b] output, int64[n] order)
<int64[1] zero = {0}, int64[1] one = {1}, int64[1] two = {2}, int64[4] border = {0,1,0,1}, float[2] scales = {1.0,2.0},
 int64[2] parts = {1,3}, int64 limit = {6}, int64 origin = {0}, int64 pace = {2}, int64[2] repeats = {1,2}>
{ shape = Shape (given)  rows = Slice (shape, zero, one)  wanted = Concat <axis = 0> (rows, two)
  filled = ConstantOfShape <value = float[1] {0.5}> (wanted)  wide = Expand (filled, wanted)
  left, right = Split <axis = 1> (given, parts)  joined = Concat <axis = 1> (wide, left, right)
  padded = Pad <mode = "constant"> (joined, border)  tiled = Tile (padded, repeats)
  larger = Resize <mode = "nearest"> (tiled, , scales)  counted = Range (origin, limit, pace)
  picked = Gather <axis = 1> (larger, counted)  best, places = TopK <axis = 1> (picked, two)
  summed = CumSum (best, origin)  output = Clip (summed)
  kept = Flatten (places)  order = ReduceMax <keepdims = 0> (kept, one) }""",
    "quantized": """
net (float[1,2,4,4] image) => (float[1,3,2,2] output, int32[2,3] whole)
<float step = {0.1}, uint8 point = {3}, int8[3,2,3,3] kernel, int8 none = {0}, int32[3] bias = {1,2,3},
 float[3] each = {1.0,0.5,0.25}, int8[3] centers = {0,0,0}, uint8[2,4] rows = {1,2,3,4,5,6,7,8},
 int8[4,3] columns = {1,2,3,4,5,6,7,8,9,10,11,12}>
{ small = QuantizeLinear (image, step, point)
  turned = QLinearConv (small, step, point, kernel, each, centers, step, point, bias)
  output = DequantizeLinear <axis = 1> (turned, step, point)  whole = MatMulInteger (rows, columns) }""",
    "sequence": """
net (float[2,3] first, seq(float[2,3]) many) => (float[m,3] output, float[2,3] second)
<int64 place = {1}, int64[2] pieces = {1,1}>
{ pair = SequenceConstruct (first, first)  more = SequenceInsert (pair, first)  kept = SequenceErase (more, place)
  joined = ConcatFromSequence <axis = 0> (kept)  parts = SplitToSequence <axis = 0> (first, pieces)
  half = SequenceAt (parts, place)  output = Add (joined, half)  length = SequenceLength (many)
  second = SequenceAt (many, place) }""",
    "text": """
net (string[words] spoken, float[n,3] given) => (string[words] upper, int64[n] label, int64[words] code)
{ upper = StringNormalizer <case_change_action = "UPPER", locale = "C"> (spoken)
  code = ai.onnx.ml.LabelEncoder <keys_strings = ["one", "two"], values_int64s = [1, 2]> (spoken)
  label, score = ai.onnx.ml.LinearClassifier
      <coefficients = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], classlabels_ints = [0, 1], intercepts = [0.0, 0.0]>
      (given) }""",
    "trees": """
net (float[n,2] given, int64[words] tokens) => (float[n,1] output, float[grams] counted)
{ output = ai.onnx.ml.TreeEnsembleRegressor
    <nodes_treeids = [0,0,0], nodes_nodeids = [0,1,2], nodes_featureids = [1,0,0], nodes_values = [0.5,0.0,0.0],
     nodes_modes = ["BRANCH_LEQ","LEAF","LEAF"], nodes_truenodeids = [1,0,0], nodes_falsenodeids = [2,0,0],
     target_treeids = [0,0], target_nodeids = [1,2], target_ids = [0,0], target_weights = [1.0,2.0], n_targets = 1>
    (given)
  counted = TfIdfVectorizer
    <mode = "TF", min_gram_length = 1, max_gram_length = 2, max_skip_count = 1, ngram_counts = [0,2],
     ngram_indexes = [0,1,2], pool_int64s = [1,2,1,2]> (tokens) }""",
    "microsoft": """
net (float[2,4] given) => (float[2,3] output) <float[3,4] dense, float[3] bias>
{ mixed = com.microsoft.FusedMatMul <transB = 1, alpha = 0.5> (given, dense)
  smooth = com.microsoft.BiasGelu (mixed, bias)  output = com.microsoft.QuickGelu <alpha = 1.5> (smooth) }""",
    "folded": """
net (float[2,4] given) => (float[2,3] output) <float[3,4] dense, float[4,3] other, float half = {0.5}>
{ turned = Transpose <perm = [1,0]> (dense)  less = Mul (turned, half)  alias = Identity (less)
  first = MatMul (given, alias)  copy = Identity (other)  second = MatMul (given, copy)
  more = Constant <value = float[3,3] {1,2,3,4,5,6,7,8,9}> ()  third = MatMul (second, more)
  output = Add (first, third) }""",
    "types": """
net (float16[2,3] half, double[2,3] wide, int32[2,3] whole, bool[2,3] mask) => (double[2,3] output)
<float16[3,3] soft, double[3,3] hard, int32[3] steps = {1,2,3}, bfloat16[3] brain, uint64[3] large = {1,2,3}>
{ first = MatMul (half, soft)  second = MatMul (wide, hard)  third = Add (whole, steps)  fourth = Cast <to = 11> (first)
  fifth = Cast <to = 11> (third)  sixth = Cast <to = 11> (brain)  seventh = Cast <to = 11> (large)
  eighth = Add (fourth, second)  ninth = Add (fifth, sixth)  tenth = Mul (ninth, seventh)
  output = Where (mask, eighth, tenth) }""",
}

# Calls of the model's own functions; the graph comes first, as in a file.
FUNCTIONS = """
net (float[2,4] given) => (float[2,3] output) <float[4,3] dense, float[3] bias>
{ middle = local.affine <slope = 0.5> (given, dense, bias)  output = local.twice (middle) }
<domain: "local", opset_import: ["" : 21]>
affine <slope> (data, factor, offset) => (moved)
{ product = MatMul (data, factor)  leaky = LeakyRelu <alpha: float = @slope> (product)  moved = Add (leaky, offset) }
<domain: "local", opset_import: ["" : 21, "local" : 1]>
twice (data) => (more) { inner = local.double (data)  more = local.double (inner) }
<domain: "local", opset_import: ["" : 21]>
double (data) => (sum) { two = Constant <value = float {2.0}> ()  sum = Mul (data, two) }"""


def valid() -> dict[str, dict[str, bytes]]:
    """Return valid models by name, each as the files of its folder."""
    models = {name: onnx.parser.parse_model(HEAD + text) for name, text in VALID.items()}
    models["functions"] = onnx.parser.parse_model(CALLS + FUNCTIONS)
    for model in models.values():
        fill(model)
    models["sparse"] = _sparse(models["folded"])
    files = {name: {"model.onnx": model.SerializeToString()} for name, model in models.items()}
    return files | {"external": _external(models["convolution"])}


def fill(model: onnx.ModelProto) -> None:
    """Make an initializer of everything declared without values: small random ones, as typed data or as raw bytes."""
    chance = np.random.default_rng(0)
    for graph in (model.graph, *(item.g for node in model.graph.node for item in node.attribute if item.HasField("g"))):
        for value in graph.value_info:
            kind, shape = value.type.tensor_type.elem_type, [dim.dim_value for dim in value.type.tensor_type.shape.dim]
            array = (chance.standard_normal(shape) * 3).astype(helper.tensor_dtype_to_np_dtype(kind))
            raw = value.name != "kernel"
            data = array.tobytes() if raw else array.reshape(-1).tolist()
            graph.initializer.append(helper.make_tensor(value.name, kind, shape, data, raw=raw))
        del graph.value_info[:]


def _sparse(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with one weight as linear and one as coordinate indices."""
    sparse = onnx.ModelProto()
    sparse.CopyFrom(model)
    dense = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for name, linear in (("dense", True), ("other", False)):
        sparse.graph.initializer.remove(next(item for item in sparse.graph.initializer if item.name == name))
        places = np.array([0, 3, 7]) if linear else np.array([[0, 1], [1, 2], [3, 0]])
        values = dense[name].reshape(-1)[places] if linear else dense[name][tuple(places.T)]
        entries = (numpy_helper.from_array(values, name), numpy_helper.from_array(places))
        sparse.graph.sparse_initializer.append(helper.make_sparse_tensor(*entries, dense[name].shape))
    return sparse


def _external(model: onnx.ModelProto) -> dict[str, bytes]:
    """Return the model with its weights in a file beside it."""
    outside, data = onnx.ModelProto(), b""
    outside.CopyFrom(model)
    for tensor in (item for item in outside.graph.initializer if len(item.dims) > 1):
        values = numpy_helper.to_array(tensor).tobytes()
        entries = {"location": "weights.bin", "offset": str(len(data)), "length": str(len(values))}
        tensor.ClearField("float_data")
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in entries.items():
            tensor.external_data.add(key=key, value=value)
        data += values
    return {"model.onnx": outside.SerializeToString(), "weights.bin": data}
