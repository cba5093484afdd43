"""The ONNX model as an immutable graph."""

from toolchain.graph.build import build_nodes
from toolchain.graph.constants import IR_FREE_INITIALIZERS
from toolchain.graph.functions import instantiate
from toolchain.graph.initializers import Initializers
from toolchain.graph.io import load_graph, model_files
from toolchain.graph.model import MIN_OPSET, Attribute, Body, Graph, Node, Value
from toolchain.graph.opsets import read_opsets
from toolchain.graph.save import save_graph, save_proto, write_atomically
from toolchain.graph.simplify import RANDOM, names_read, simplify
from toolchain.graph.weights import Weight, find_weights
from toolchain.graph.widen import widen

__all__ = [
    "IR_FREE_INITIALIZERS",
    "MIN_OPSET",
    "RANDOM",
    "Attribute",
    "Body",
    "Graph",
    "Initializers",
    "Node",
    "Value",
    "Weight",
    "build_nodes",
    "find_weights",
    "instantiate",
    "load_graph",
    "model_files",
    "names_read",
    "read_opsets",
    "save_graph",
    "save_proto",
    "simplify",
    "widen",
    "write_atomically",
]
