"""Small models, and the test that judges every rule: a model without channels equals the one with them at zero."""

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper

from toolchain.channels import find_channels, remove_channels, trace
from toolchain.graph import load_graph
from toolchain.graph.build import find_constants
from toolchain.graph.flatten import flatten
from toolchain.module import OnnxModule

BOTH, MAKERS = ("makes", "reads"), ("makes",)

# Self-attention as exporters write it: s are the sizes of the heads, e those of all of them together.
HEADS = (
    "q = MatMul(x, wq) k = MatMul(x, wk) v = MatMul(x, wv) "
    "qh = Reshape(q, s) kh = Reshape(k, s) vh = Reshape(v, s) "
    "qt = Transpose<perm=[0,2,1,3]>(qh) kt = Transpose<perm=[0,2,3,1]>(kh) vt = Transpose<perm=[0,2,1,3]>(vh) "
    "a = MatMul(qt, kt) p = Softmax<axis=-1>(a) o = MatMul(p, vt) ot = Transpose<perm=[0,2,1,3]>(o) "
    "m = Reshape(ot, e) y = MatMul(m, wo)"
)


def model_of(inputs, body, opset=18, ir_version=10, **constants):
    """A graph from ``inputs`` to y; constants are given by shape, and random, or as arrays."""
    header = f'<ir_version: {ir_version}, opset_import: ["" : {opset}, "com.microsoft" : 1]>'
    proto = onnx.parser.parse_model(f"{header} g ({inputs}) => (float y) {{ {body} }}")
    rng = np.random.default_rng(0)
    for name, given in constants.items():
        array = given
        if isinstance(given, tuple):
            array = rng.uniform(0.5, 1.5, given).astype(np.float32) * rng.choice([-1, 1], given).astype(np.float32)
        proto.graph.initializer.append(numpy_helper.from_array(np.asarray(array), name))
    return load_graph(proto)


def ints(*values):
    return np.array(values, np.int64)


def feed_of(graph, seed=0, batch=2):
    rng = np.random.default_rng(seed)
    shapes = {value.name: [size if isinstance(size, int) else batch for size in value.shape] for value in graph.inputs}
    return {
        value.name: rng.integers(0, 3, shapes[value.name]).astype(value.dtype)
        if value.dtype.kind == "i"
        else rng.standard_normal(shapes[value.name]).astype(value.dtype)
        for value in graph.inputs
    }


def channels_of(graph):
    return find_channels(trace(OnnxModule(graph).eval(), feed_of(graph)))


def removable(channels):
    """Return the number of channels of every group that can lose some, by name."""
    return {group.name: group.count for group in channels.groups if not group.reason}


def blocked(channels):
    """Return why the groups that make something cannot lose channels, by name."""
    return {group.name: group.reason for group in channels.groups if group.reason}


def parts(channels, name):
    """Return what a channel of a group consists of: tensor, dimension, positions of the first channel."""
    group = next(group for group in channels.groups if group.name == name)
    return [(part.tensor, part.axis, part.positions[0].tolist()) for part in group.slices]


def run(graph, feed):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(graph.proto.SerializeToString(), options)
    return session.run(None, feed)


def zeroed(graph, channels, removed, roles):
    """Return the graph with the float slices of the ``removed`` channels at zero, of those ``roles``."""
    proto = onnx.ModelProto()
    proto.CopyFrom(flatten(graph).proto)
    arrays = {}
    for group in channels.groups:
        for part in group.slices:
            if group.name in removed and part.role in roles and graph.initializers.dtype(part.tensor).kind == "f":
                array = arrays.setdefault(part.tensor, graph.initializers[part.tensor].copy())
                np.moveaxis(array, part.axis, 0)[part.positions[removed[group.name]].ravel()] = 0
    constants = find_constants(proto)
    for name, array in arrays.items():
        held = constants[name].name if isinstance(constants[name], onnx.TensorProto) else ""
        constants[name].CopyFrom(
            numpy_helper.from_array(array, held)
            if isinstance(constants[name], onnx.TensorProto)
            else onnx.helper.make_attribute(constants[name].name, array.tolist())
        )
    return load_graph(proto)


def random_half(channels, seed=0, leaking=True):
    """Return a random half of the channels of every group, at most all but one."""
    rng = np.random.default_rng(seed)
    groups = [group for group in channels.groups if not group.reason and (leaking or not group.leak)]
    return {group.name: np.sort(rng.permutation(group.count)[: group.count // 2]) for group in groups}


def check(graph, tolerance=1e-5, batches=(2, 3)):
    """Remove a random half of all channels and compare, by ONNX Runtime; return the channels."""
    channels = channels_of(graph)
    assert removable(channels), f"nothing can be removed: {blocked(channels)}"
    for leaking, roles in ((True, BOTH), (False, MAKERS)):
        removed = random_half(channels, leaking=leaking)
        small = remove_channels(graph, channels, removed)
        reference = zeroed(graph, channels, removed, roles)
        for batch in batches:
            feed = feed_of(graph, seed=1, batch=batch)
            for got, wanted in zip(run(small, feed), run(reference, feed), strict=True):
                scale = np.abs(wanted).max() if wanted.dtype.kind == "f" else 1
                assert np.isfinite(wanted).all()
                np.testing.assert_allclose(got, wanted, rtol=0, atol=tolerance * scale)
    return channels
