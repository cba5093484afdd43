"""The ONNX model as an immutable graph."""

from toolchain.graph.io import load_graph, model_files, save_proto, write_atomically
from toolchain.graph.model import MIN_OPSET, Attribute, Graph, Node, Value
from toolchain.graph.simplify import simplify
from toolchain.graph.weights import Weight, find_weights

__all__ = [
    "MIN_OPSET",
    "Attribute",
    "Graph",
    "Node",
    "Value",
    "Weight",
    "find_weights",
    "load_graph",
    "model_files",
    "save_proto",
    "simplify",
    "write_atomically",
]
