"""Mutators of tensors, which change a model in place, and of bytes, which return others."""

import random

from choices import NAMES, NUMBERS, UnfitError, a_tensor, known_names, pick, proper_graphs
from onnx import ModelProto, TensorProto


def change_dimension(model: ModelProto, chance: random.Random) -> None:
    tensor = a_tensor(model, chance)
    if chance.random() < 0.2:
        tensor.dims.extend([1] * chance.choice((1, 3, 70)))
    elif chance.random() < 0.2:
        del tensor.dims[:]
    elif tensor.dims:
        place = chance.randrange(len(tensor.dims))
        tensor.dims[place] = chance.choice(
            (*NUMBERS, tensor.dims[place] + 1, tensor.dims[place] - 1, -tensor.dims[place])
        )
    else:
        raise UnfitError


def change_data(model: ModelProto, chance: random.Random) -> None:
    """Shorten, lengthen or remove the data, or put some of another kind beside it."""
    tensor, way = a_tensor(model, chance), chance.randrange(4)
    fields = ("float_data", "int32_data", "int64_data", "double_data", "uint64_data", "string_data")
    name = next((field for field in fields if len(getattr(tensor, field))), "raw_data")
    if way == 0:
        tensor.ClearField(name)
    elif way == 1:
        tensor.raw_data += bytes(chance.choice((1, 4, 1000)))
    elif way == 2:
        getattr(tensor, chance.choice(fields[:-1])).extend([1] * chance.choice((1, 4, 1000)))
    elif name == "raw_data":
        tensor.raw_data = tensor.raw_data[: -chance.choice((1, 2, 4, 8))]
    else:
        del getattr(tensor, name)[-chance.choice((1, 2)) :]


def change_values(model: ModelProto, chance: random.Random) -> None:
    """Put absurd numbers into integers, as they are sizes, axes and indices."""
    tensors = [item for graph in proper_graphs(model) for item in graph.initializer]
    tensor = pick(chance, [item for item in tensors if item.data_type == TensorProto.INT64])
    count = max(1, len(tensor.raw_data) // 8 + len(tensor.int64_data))
    tensor.ClearField("raw_data")
    tensor.int64_data[:] = chance.choices(NUMBERS, k=count)


def change_element_type(model: ModelProto, chance: random.Random) -> None:
    a_tensor(model, chance).data_type = chance.choice((*TensorProto.DataType.values(), 99, -1, 2**31 - 1))


def rename_tensor(model: ModelProto, chance: random.Random) -> None:
    a_tensor(model, chance).name = chance.choice((a_tensor(model, chance).name, *NAMES, *known_names(model.graph)))


def drop_tensor(model: ModelProto, chance: random.Random) -> None:
    tensors = pick(
        chance, [kind for g in proper_graphs(model) for kind in (g.initializer, g.sparse_initializer) if len(kind)]
    )
    del tensors[chance.randrange(len(tensors))]


def repeat_tensor(model: ModelProto, chance: random.Random) -> None:
    graph = pick(chance, proper_graphs(model))
    graph.initializer.append(a_tensor(model, chance))


def damage_sparse(model: ModelProto, chance: random.Random) -> None:
    sparse = pick(chance, model.graph.sparse_initializer)
    way = chance.randrange(5)
    if way == 0:
        sparse.dims[chance.randrange(len(sparse.dims))] = chance.choice(NUMBERS)
    elif way == 1:
        sparse.dims.extend(chance.choices(NUMBERS, k=2))
    elif way == 2:
        sparse.ClearField(chance.choice(("values", "indices", "dims")))
    else:
        count = len(sparse.indices.raw_data) // 8
        sparse.indices.ClearField("raw_data")
        sparse.indices.int64_data[:] = chance.choices((0, 1, 5, *NUMBERS), k=count + chance.choice((0, 0, 0, 1)))


def damage_external(model: ModelProto, chance: random.Random) -> None:
    tensor = pick(chance, [item for item in model.graph.initializer if item.external_data])
    entry = chance.choice(tensor.external_data)
    places = (
        "../weights.bin",
        "/etc/passwd",
        "absent.bin",
        "",
        ".",
        "a\0b",
        "weights.bin/..",
        "x" * 5000,
        "C:\\weights.bin",
    )
    numbers = ("-1", "-8", "1", "4", "x", "", "1e3", "0x10", " 8", "٣", *map(str, NUMBERS), "9" * 5000)
    way = chance.randrange(4)
    if way == 0:
        entry.key = chance.choice(("location", "offset", "length", "checksum", ""))
    elif way == 1:
        tensor.external_data.remove(entry)
    else:
        entry.value = chance.choice(places if entry.key == "location" else numbers)


def claim_external(model: ModelProto, chance: random.Random) -> None:
    tensor = a_tensor(model, chance)
    tensor.data_location = TensorProto.EXTERNAL
    if chance.random() < 0.7:
        tensor.external_data.add(key="location", value=chance.choice(("model.onnx", "weights.bin", "../model.onnx")))


def truncate(data: bytes, chance: random.Random) -> bytes:
    return data[: chance.randrange(len(data))]


def flip_bits(data: bytes, chance: random.Random) -> bytes:
    damaged = bytearray(data)
    for _ in range(chance.choice((1, 2, 5))):
        damaged[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    return bytes(damaged)


def splice(data: bytes, chance: random.Random) -> bytes:
    """Copy a piece of the file to another place of it."""
    start, place = chance.randrange(len(data)), chance.randrange(len(data))
    return data[:place] + data[start : start + chance.choice((1, 8, 64))] + data[place:]


def spoil_text(data: bytes, chance: random.Random) -> bytes:
    """Put a byte that is no UTF-8 where a letter was."""
    letters = [place for place, byte in enumerate(data) if 97 <= byte <= 122]
    place = pick(chance, letters)
    return data[:place] + bytes([chance.choice((0x80, 0xC3, 0xFF, 0xED))]) + data[place + 1 :]


def blank(data: bytes, chance: random.Random) -> bytes:
    """Overwrite a piece, as a download does that lost a packet."""
    start, length = chance.randrange(len(data)), chance.choice((1, 16, 512))
    return data[:start] + bytes(len(data[start : start + length])) + data[start + length :]
