"""Mutators of nodes, attributes, interfaces, subgraphs, functions and versions; each changes a model in place."""

import random
from collections.abc import Sequence

import onnx
from choices import (
    NAMES,
    NUMBERS,
    Item,
    UnfitError,
    a_body,
    a_graph,
    a_node,
    a_value,
    an_attribute,
    graphs,
    known_names,
    pick,
)
from onnx import AttributeProto, ModelProto, NodeProto, TensorProto, helper

OPERATORS = tuple(sorted({schema.name for schema in onnx.defs.get_all_schemas()}))


def drop_node(model: ModelProto, chance: random.Random) -> None:
    graph = a_graph(model, chance)
    del graph.node[chance.randrange(len(graph.node))]


def repeat_node(model: ModelProto, chance: random.Random) -> None:
    graph = a_graph(model, chance)
    graph.node.append(pick(chance, graph.node))


def reorder_nodes(model: ModelProto, chance: random.Random) -> None:
    graph = a_graph(model, chance)
    nodes = [NodeProto.FromString(node.SerializeToString()) for node in graph.node]
    chance.shuffle(nodes)
    del graph.node[:]
    graph.node.extend(nodes)


def make_cycle(model: ModelProto, chance: random.Random) -> None:
    graph = a_graph(model, chance)
    first, last = sorted((chance.randrange(len(graph.node)), chance.randrange(len(graph.node))))
    if not graph.node[first].input or not graph.node[last].output:
        raise UnfitError
    graph.node[first].input[chance.randrange(len(graph.node[first].input))] = pick(chance, graph.node[last].output)


def rewire_input(model: ModelProto, chance: random.Random) -> None:
    graph = a_graph(model, chance)
    node = pick(chance, [node for node in graph.node if node.input])
    node.input[chance.randrange(len(node.input))] = chance.choice([*known_names(graph), *NAMES])


def rename_output(model: ModelProto, chance: random.Random) -> None:
    graph = a_graph(model, chance)
    node = pick(chance, [node for node in graph.node if node.output])
    node.output[chance.randrange(len(node.output))] = chance.choice([*known_names(graph), *NAMES])


def change_arity(model: ModelProto, chance: random.Random) -> None:
    node = a_node(model, chance)
    names = chance.choice((node.input, node.output))
    if chance.random() < 0.5 and names:
        del names[chance.randrange(len(names)) :]
    else:
        names.extend(chance.choices([*names, "", "more"], k=chance.choice((1, 2, 40))))


def change_operator(model: ModelProto, chance: random.Random) -> None:
    node = a_node(model, chance)
    node.op_type = chance.choice((*chance.choices(OPERATORS, k=8), *NAMES))


def change_domain(model: ModelProto, chance: random.Random) -> None:
    a_node(model, chance).domain = chance.choice(("ai.onnx", "com.microsoft", "ai.onnx.ml", "local", "nowhere", "\0"))


def rename_node(model: ModelProto, chance: random.Random) -> None:
    graph = a_graph(model, chance)
    name = chance.choice(NAMES)
    for node in graph.node:
        node.name = name


def drop_attribute(model: ModelProto, chance: random.Random) -> None:
    node = pick(chance, [node for graph in graphs(model) for node in graph.node if node.attribute])
    del node.attribute[chance.randrange(len(node.attribute))]


def rename_attribute(model: ModelProto, chance: random.Random) -> None:
    other = an_attribute(model, chance).name
    an_attribute(model, chance).name = chance.choice((other, *NAMES))


def repeat_attribute(model: ModelProto, chance: random.Random) -> None:
    attribute = an_attribute(model, chance)
    a_node(model, chance).attribute.append(attribute)


def add_attribute(model: ModelProto, chance: random.Random) -> None:
    name = chance.choice(("axis", "to", "perm", "group", "pads", "body", "value", "keepdims", "nonsense"))
    value = chance.choice((*NUMBERS, 0.5, "text", [1, 2], [0.5], ["text"], [-1, 2**60], float("nan")))
    a_node(model, chance).attribute.append(helper.make_attribute(name, value))


def change_attribute_value(model: ModelProto, chance: random.Random) -> None:
    attribute = an_attribute(model, chance)
    kind = attribute.type
    if kind == AttributeProto.INT:
        attribute.i = chance.choice(NUMBERS)
    elif kind == AttributeProto.FLOAT:
        attribute.f = chance.choice((float("nan"), float("inf"), -1.0, 0.0, 3e38))
    elif kind == AttributeProto.STRING:
        attribute.s = chance.choice((b"", b"nonsense", b"\xff\xfe", b"a,b->c", b"x" * 10000))
    elif kind == AttributeProto.INTS:
        _change_list(attribute.ints, NUMBERS, chance)
    elif kind == AttributeProto.FLOATS:
        _change_list(attribute.floats, (float("nan"), 0.0, -1e38), chance)
    elif kind == AttributeProto.STRINGS:
        _change_list(attribute.strings, (b"", b"\xff", b"nonsense"), chance)
    else:
        raise UnfitError


def _change_list(values: list[Item], strange: Sequence[Item], chance: random.Random) -> None:
    way = chance.randrange(4)
    if way == 0:
        del values[:]
    elif way == 1 and values:
        values.pop()
    elif way == 2:
        values.extend([chance.choice(strange)] * chance.choice((1, 3, 300)))
    elif values:
        values[chance.randrange(len(values))] = chance.choice(strange)


def change_attribute_type(model: ModelProto, chance: random.Random) -> None:
    attribute = an_attribute(model, chance)
    if chance.random() < 0.5:
        attribute.type = chance.choice((0, *range(1, 15)))
        return
    name = attribute.name
    attribute.CopyFrom(helper.make_attribute(name, chance.choice((3, 0.5, "text", [1, 2], [0.5], ["text"]))))


def change_attribute_reference(model: ModelProto, chance: random.Random) -> None:
    an_attribute(model, chance).ref_attr_name = chance.choice(("slope", "nobody"))


def change_type(model: ModelProto, chance: random.Random) -> None:
    value, way = a_value(model, chance), chance.randrange(6)
    tensor = value.type.tensor_type
    inner = helper.make_tensor_type_proto(chance.choice((1, 7, 8, 9, 16)), None)
    if way == 0:
        tensor.elem_type = chance.choice((*TensorProto.DataType.values(), 99, -1))
    elif way == 1:
        value.ClearField("type")
    elif way == 2:
        value.type.CopyFrom(helper.make_sequence_type_proto(inner))
    elif way == 3:
        value.type.CopyFrom(
            helper.make_optional_type_proto(chance.choice((inner, helper.make_sequence_type_proto(inner))))
        )
    elif way == 4:
        value.type.CopyFrom(helper.make_map_type_proto(chance.choice((7, 8, 1)), inner))
    else:
        value.type.CopyFrom(helper.make_sparse_tensor_type_proto(1, (2, 3)))


def change_shape(model: ModelProto, chance: random.Random) -> None:
    shape, way = a_value(model, chance).type.tensor_type.shape, chance.randrange(4)
    if way == 0 and shape.dim:
        del shape.dim[chance.randrange(len(shape.dim))]
    elif way == 1:
        shape.dim.extend([onnx.TensorShapeProto.Dimension(dim_value=2)] * chance.choice((1, 3, 70)))
    elif shape.dim:
        chance.choice(shape.dim).dim_value = chance.choice(NUMBERS)
    else:
        raise UnfitError


def change_interface(model: ModelProto, chance: random.Random) -> None:
    """Drop, repeat, add or rename an input or output of a graph or function."""
    graph, way = a_graph(model, chance), chance.randrange(4)
    ports = chance.choice((graph.input, graph.output))
    if isinstance(graph, onnx.FunctionProto):
        ports.extend(["more"] if way else []) if way != 1 or not ports else ports.pop()
    elif way == 0 and ports:
        ports.pop(chance.randrange(len(ports)))
    elif way == 1 and ports:
        ports.append(chance.choice(ports))
    elif way == 2 and ports:
        chance.choice(ports).name = chance.choice((*NAMES, *known_names(graph)))
    else:
        ports.append(helper.make_tensor_value_info(chance.choice((*NAMES, *known_names(graph))), 1, [2]))


def damage_body(model: ModelProto, chance: random.Random) -> None:
    body, way = a_body(model, chance), chance.randrange(5)
    if way == 0:
        body.Clear()
    elif way == 1:
        del body.node[:]
    elif way == 2:
        body.ClearField(chance.choice(("input", "output")))
    elif way == 3:
        body.CopyFrom(a_body(model, chance))
    else:
        name = chance.choice(known_names(model.graph))
        pick(chance, [node for node in body.node if node.output]).output[0] = name


def damage_functions(model: ModelProto, chance: random.Random) -> None:
    function, other = pick(chance, model.functions), pick(chance, model.functions)
    way = chance.randrange(7)
    if way == 0:
        inner = NodeProto(op_type=other.name, domain=other.domain, input=function.input[:1], output=["again"])
        function.node.insert(0, inner)
    elif way == 1:
        function.name = other.name
    elif way == 2:
        function.ClearField(chance.choice(("opset_import", "output", "input", "node", "attribute", "name", "domain")))
    elif way == 3:
        function.opset_import.add(domain=chance.choice(("", "nowhere")), version=chance.choice(NUMBERS))
    elif way == 4:
        model.functions.remove(function)
    elif way == 5:
        function.name, function.domain = chance.choice(("Relu", "MatMul", "Constant", "Gemm")), ""
    else:
        function.attribute.append("slope")


def change_versions(model: ModelProto, chance: random.Random) -> None:
    way = chance.randrange(4)
    entry = pick(chance, model.opset_import)
    if way == 0:
        entry.version = chance.choice((*NUMBERS, 8, 9, 11, 13, 17, 999))
    elif way == 1:
        model.ir_version = chance.choice((0, 1, 2, 3, 4, 7, 9, 13, 999, -1))
    elif way == 2:
        entry.domain = chance.choice(("", "ai.onnx", "nowhere", "com.microsoft"))
    else:
        model.opset_import.add(domain=entry.domain, version=chance.choice((7, 13, 999)))
