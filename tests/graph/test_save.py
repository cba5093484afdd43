import os
import shutil

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from toolchain.errors import ExportError
from toolchain.graph import load_graph, save_graph, save_proto, write_atomically

TEXT = """
<ir_version: 8, opset_import: ["" : 13, "com.microsoft" : 1], producer_name: "test">
g (float[n,3] x) => (float[n,2] y) <float[3,2] w = {1,2,3,4,5,6}, float[2] b = {1,2}>
{ h = MatMul(x, w)  y = Add(h, b) }
"""
W = np.arange(6, dtype=np.float32).reshape(3, 2) - 0.5
B = np.array([7, -8], np.float32)


@pytest.fixture
def proto():
    return onnx.parser.parse_model(TEXT)


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    return folder


@pytest.fixture
def target(tmp_path):
    folder = tmp_path / "target"
    folder.mkdir()
    return folder / "saved.onnx"


def write_external(folder, places, content, files=("weights.bin",)):
    """Write the model with tensors in external data: (location, offset) by name, and what else is in the files."""
    proto = onnx.parser.parse_model(TEXT)
    data = {name: bytearray(content) for name in files}
    for tensor in proto.graph.initializer:
        if tensor.name in places:
            location, offset = places[tensor.name]
            values = numpy_helper.to_array(tensor).tobytes()
            tensor.ClearField("float_data")
            tensor.ClearField("raw_data")
            tensor.data_location = TensorProto.EXTERNAL
            for key, value in {"location": location, "offset": str(offset), "length": str(len(values))}.items():
                tensor.external_data.add(key=key, value=value)
            file = os.path.normpath(location)
            data[file][offset : offset + len(values)] = values
    for name, filled in data.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(filled)
    (folder / "model.onnx").write_bytes(proto.SerializeToString())
    return folder / "model.onnx"


PLACES = {"w": ("weights.bin", 16), "b": ("weights.bin", 48)}
GAPS = b"what is between the tensors belongs to nobody and stays as it is"


def names(folder):
    return sorted(file.name for file in folder.iterdir())


def snapshot(folder):
    return {file.relative_to(folder): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


# How the same model may be written by others: protobuf readers take fields in any order, lists of numbers packed or
# not, numbers with leading zeros, and fields that they do not know.
def tagged(number, content):
    return bytes([number << 3 | 2, len(content)]) + content


def unusual():
    shape = tagged(2, tagged(1, b"") + tagged(1, bytes([0x08, 3])))
    weight = bytes([0x10, 0x81, 0x00]) + tagged(1, bytes([3, 2])) + tagged(8, b"w") + tagged(9, W.tobytes())
    value = tagged(1, b"x") + tagged(2, tagged(1, shape + bytes([0x08, 1])))
    output = tagged(1, b"y") + tagged(
        2, tagged(1, shape.replace(bytes([0x08, 3]), bytes([0x08, 2])) + bytes([0x08, 1]))
    )
    node = tagged(4, b"MatMul") + tagged(2, b"y") + tagged(1, b"x") + tagged(1, b"w") + tagged(14, b"not known yet")
    graph = tagged(12, output) + tagged(5, weight) + tagged(2, b"g") + tagged(11, value) + tagged(1, node)
    return tagged(8, bytes([0x10, 13])) + tagged(7, graph) + bytes([0x08, 8])


def test_an_unchanged_model_is_written_byte_for_byte(source, target, proto):
    for data in (proto.SerializeToString(), unusual()):
        (source / "model.onnx").write_bytes(data)
        for given in (source / "model.onnx", data):
            save_graph(load_graph(given), target, {})
            assert target.read_bytes() == data
        assert names(target.parent) == ["saved.onnx"]
    assert onnx.ModelProto.FromString(unusual()).SerializeToString() != unusual()


def test_a_proto_is_written_as_it_is(target, proto):
    save_graph(load_graph(proto), target, {})
    assert target.read_bytes() == proto.SerializeToString()


def test_only_the_values_change(target):
    save_graph(load_graph(unusual()), target, {"w": W * 3})
    saved = onnx.load(target)
    np.testing.assert_array_equal(numpy_helper.to_array(saved.graph.initializer[0]), W * 3)
    saved.graph.initializer[0].raw_data = W.tobytes()
    assert saved.SerializeToString() == onnx.ModelProto.FromString(unusual()).SerializeToString()


def test_a_model_whose_file_is_gone_or_changed_is_written_as_it_was_loaded(source, target, proto):
    path = source / "model.onnx"
    path.write_bytes(proto.SerializeToString())
    graph = load_graph(path)
    for spoil in (lambda: path.write_bytes(b"something else"), path.unlink):
        spoil()
        save_graph(graph, target, {"b": B})
        np.testing.assert_array_equal(load_graph(target).initializers["b"], B)
        save_graph(graph, target, {})
        assert target.read_bytes() == proto.SerializeToString()


@pytest.mark.parametrize("largest", [10**9, 1], ids=["read", "mapped"])
def test_external_data_are_written_byte_for_byte_under_their_names(source, target, monkeypatch, largest):
    monkeypatch.setattr("toolchain.graph.io.SMALLEST_MAPPED", 1)
    places = {"w": ("weights.bin", 16), "b": ("./deep/more.bin", 8)}
    graph = load_graph(write_external(source, places, GAPS, ("weights.bin", "deep/more.bin")), largest)
    assert graph.is_mapped == (largest == 1)
    save_graph(graph, target, {})
    assert (target.parent / "deep" / "more.bin").read_bytes() == (source / "deep" / "more.bin").read_bytes()
    target.rename(target.with_name("model.onnx"))
    assert snapshot(target.parent) == snapshot(source)


@pytest.mark.parametrize("largest", [10**9, 1], ids=["read", "mapped"])
def test_new_values_take_the_place_of_the_old_in_external_data(source, target, monkeypatch, largest):
    monkeypatch.setattr("toolchain.graph.io.SMALLEST_MAPPED", 1)
    path = write_external(source, PLACES, GAPS)
    before = snapshot(source)
    graph = load_graph(path, largest)
    assert graph.is_mapped == (largest == 1)
    save_graph(graph, target, {"w": W})
    assert snapshot(source) == before
    assert target.read_bytes() == path.read_bytes()
    expected = bytearray((source / "weights.bin").read_bytes())
    expected[16:40] = W.tobytes()
    assert (target.parent / "weights.bin").read_bytes() == expected
    np.testing.assert_array_equal(load_graph(target).initializers["w"], W)


def test_a_model_is_saved_again_over_what_was_saved_before(source, target):
    graph = load_graph(write_external(source, PLACES, GAPS))
    for values in (W, W * 2):
        save_graph(graph, target, {"w": values})
        np.testing.assert_array_equal(load_graph(target).initializers["w"], values)
    assert names(target.parent) == ["saved.onnx", "weights.bin"]


@pytest.mark.parametrize("other", [b"no model at all", None, "another"], ids=["damaged", "none", "another"])
def test_a_file_of_somebody_else_is_not_overwritten_by_external_data(source, target, proto, other):
    if other is not None:
        target.write_bytes(proto.SerializeToString() if other == "another" else other)
    theirs = target.parent / "weights.bin"
    theirs.write_bytes(b"theirs")
    before = snapshot(target.parent)
    with pytest.raises(ExportError, match=r"weights\.bin is there already"):
        save_graph(load_graph(write_external(source, PLACES, GAPS)), target, {"w": W})
    assert snapshot(target.parent) == before


def test_beside_the_original_unchanged_external_data_are_shared_and_changed_ones_refused(source):
    graph = load_graph(write_external(source, {"w": PLACES["w"]}, GAPS))
    data = (source / "weights.bin").read_bytes()
    save_graph(graph, source / "again.onnx", {"b": B})
    again = load_graph(source / "again.onnx").initializers
    np.testing.assert_array_equal(again["b"], B)
    np.testing.assert_array_equal(again["w"], graph.initializers["w"])
    with pytest.raises(ExportError, match=r"weights\.bin holds weights that the model was read from") as raised:
        save_graph(graph, source / "again.onnx", {"w": W})
    assert "another folder" in raised.value.hint
    assert (source / "weights.bin").read_bytes() == data


def test_what_the_model_was_read_from_is_never_written(source):
    graph = load_graph(write_external(source, PLACES, GAPS))
    (source / "link.onnx").symlink_to("model.onnx")
    os.link(source / "model.onnx", source / "hard.onnx")
    before = snapshot(source)
    for name in ("model.onnx", "link.onnx", "hard.onnx", "weights.bin"):
        with pytest.raises(ExportError, match="is what the model was read from"):
            save_graph(graph, source / name, {})
    assert snapshot(source) == before


def test_a_model_cannot_take_the_name_of_its_external_data(source, target):
    graph = load_graph(write_external(source, PLACES, GAPS))
    with pytest.raises(ExportError, match="the name that the model's external data need"):
        save_graph(graph, target.with_name("weights.bin"), {})
    assert not names(target.parent)


@pytest.mark.parametrize("name", ["weights.bin", "model.onnx"])
@pytest.mark.parametrize("spoil", [os.unlink, lambda path: path.write_bytes(path.read_bytes() + b" ")])
def test_external_data_that_changed_since_are_an_error(source, target, name, spoil):
    graph = load_graph(write_external(source, PLACES, GAPS))
    spoil(source / name)
    with pytest.raises(ExportError, match="gone or was written to since"):
        save_graph(graph, target, {})
    assert not names(target.parent)


def test_links_of_a_download_cache_become_files(source, target):
    path = write_external(source, PLACES, GAPS)
    (source / "blobs").mkdir()
    for name in ("model.onnx", "weights.bin"):
        (source / name).rename(source / "blobs" / name)
        (source / name).symlink_to(f"blobs/{name}")
    save_graph(load_graph(path), target, {"w": W})
    assert not (target.parent / "weights.bin").is_symlink()
    np.testing.assert_array_equal(load_graph(target).initializers["w"], W)


def twins(folder, second_offset):
    """Write a model of two weights of the same shape, the second of which lies ``second_offset`` behind the first."""
    proto = onnx.parser.parse_model("""
    <ir_version: 8, opset_import: ["" : 13]>
    g (float[n,2] x) => (float[n,2] y) <float[2,2] w = {1,2,3,4}, float[2,2] v = {1,2,3,4}>
    { h = MatMul(x, w)  y = MatMul(h, v) }
    """)
    for tensor, offset in zip(proto.graph.initializer, (0, second_offset), strict=True):
        tensor.ClearField("float_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in {"location": "weights.bin", "offset": str(offset)}.items():
            tensor.external_data.add(key=key, value=value)
    (folder / "weights.bin").write_bytes(np.array([1, 2, 3, 4, 5], np.float32).tobytes())
    (folder / "model.onnx").write_bytes(proto.SerializeToString())
    return load_graph(folder / "model.onnx")


@pytest.mark.parametrize("second_offset", [0, 4])
def test_weights_that_share_bytes_cannot_become_different(source, target, second_offset):
    graph = twins(source, second_offset)
    one = np.ones((2, 2), np.float32)
    for values in ({"w": one}, {"v": one}, {"w": one, "v": one * 2}):
        with pytest.raises(ExportError, match="tensors 'w', 'v' share bytes in weights"):
            save_graph(graph, target, values)
    assert not names(target.parent)


def test_weights_that_share_their_place_change_together(source, target):
    one = np.ones((2, 2), np.float32)
    save_graph(twins(source, 0), target, {"w": one, "v": one})
    np.testing.assert_array_equal(load_graph(target).initializers["v"], one)


def test_values_of_another_type_or_shape_are_refused(target, proto):
    for values in (W.astype(np.float64), W[:2]):
        with pytest.raises(ExportError, match=rf"weight 'w' is {values.dtype}.*the file has float32 \[3, 2\]"):
            save_graph(load_graph(proto), target, {"w": values})
    assert not names(target.parent)


def test_a_copy_that_fails_leaves_nothing(source, target, monkeypatch):
    graph = load_graph(write_external(source, PLACES, GAPS))
    target.write_bytes(b"old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfileobj", full)
    with pytest.raises(ExportError, match=r"weights\.bin: No space left"):
        save_graph(graph, target, {"w": W})
    assert snapshot(target.parent) == {target.relative_to(target.parent): b"old"}


def test_a_folder_for_external_data_that_cannot_be_made_is_an_error(source, target):
    graph = load_graph(write_external(source, {"w": ("deep/w.bin", 0)}, GAPS, ("deep/w.bin",)))
    (target.parent / "deep").write_bytes(b"a file")
    with pytest.raises(ExportError, match="deep"):
        save_graph(graph, target, {})


def test_a_folder_and_a_device_are_not_written(target, proto):
    target.mkdir()
    with pytest.raises(ExportError, match="is a folder"):
        save_graph(load_graph(proto), target, {})
    with pytest.raises(ExportError, match="not a file"):
        save_graph(load_graph(proto), target.parent.__class__("/dev/null"), {})


def test_a_proto_beyond_2_gib_is_not_written(target, proto, monkeypatch):
    monkeypatch.setattr("toolchain.graph.save.MAX_PROTOBUF_BYTES", 50)
    with pytest.raises(ExportError, match="2 GiB"):
        save_proto(proto, target)
    assert not names(target.parent)


def test_a_file_is_written_whole_and_leaves_nothing_else(tmp_path, proto):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"old")
    save_proto(proto, path)
    assert path.read_bytes() == proto.SerializeToString()
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]
    assert path.stat().st_mode & 0o600 == 0o600


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"old")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ExportError, match="No space left"):
        write_atomically(path, b"new")
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]
    assert path.read_bytes() == b"old"


def test_a_write_that_is_interrupted_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"old")

    def interrupt(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, b"new")
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]
    assert path.read_bytes() == b"old"


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    for folder in (tmp_path / "absent", tmp_path / "file"):
        with pytest.raises(ExportError, match="cannot write to"):
            write_atomically(folder / "model.onnx", b"data")
    (tmp_path / "taken").mkdir()
    with pytest.raises(ExportError, match="cannot write"):
        write_atomically(tmp_path / "taken", b"data")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["file", "taken"]
