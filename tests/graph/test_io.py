import random

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from toolchain.errors import ModelError, ToolchainError
from toolchain.graph import load_graph, model_files

TEXT = """
<ir_version: 8, opset_import: ["" : 13, "com.microsoft" : 1], producer_name: "test">
g (float[n,3] x) => (float[n,2] y) <float[3,2] w = {1,2,3,4,5,6}, float[2] b = {1,2}>
{ h = MatMul(x, w)  y = Add(h, b) }
"""


@pytest.fixture
def proto():
    return onnx.parser.parse_model(TEXT)


@pytest.fixture
def external(tmp_path, proto):
    """A model whose weight lies in weights.bin beside it, after 8 bytes of something else."""
    weight = next(tensor for tensor in proto.graph.initializer if tensor.name == "w")
    data = numpy_helper.to_array(weight).tobytes()
    weight.ClearField("float_data")
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    for key, value in {"location": "weights.bin", "offset": "8", "length": str(len(data))}.items():
        weight.external_data.add(key=key, value=value)
    (tmp_path / "weights.bin").write_bytes(b"\0" * 8 + data)
    path = tmp_path / "model.onnx"
    path.write_bytes(proto.SerializeToString())
    return path


def set_location(path, location):
    proto = onnx.load(path, load_external_data=False)
    for tensor in proto.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = location
    path.write_bytes(proto.SerializeToString())


def test_a_path_bytes_and_a_proto_give_the_same_graph(tmp_path, proto):
    path = tmp_path / "model.onnx"
    path.write_bytes(proto.SerializeToString())
    for source in (path, str(path), path.read_bytes(), proto):
        graph = load_graph(source)
        assert [node.op for node in graph.nodes] == ["MatMul", "Add"]
        assert graph.proto.SerializeToString() == path.read_bytes()


@pytest.mark.parametrize(
    "content", [b"", b"hello, this is not a model\n", b"PK\x03\x04" + bytes(64), bytes(1000)], ids=repr
)
def test_a_file_that_is_not_onnx_is_refused(tmp_path, content):
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"model\.onnx") as raised:
        load_graph(path)
    assert raised.value.hint


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    with pytest.raises(ModelError, match="No such file"):
        load_graph(tmp_path / "absent.onnx")
    with pytest.raises(ModelError, match="directory"):
        load_graph(tmp_path)


def test_a_file_truncated_at_any_byte_is_refused(proto):
    data = proto.SerializeToString()
    for length in range(len(data)):
        # Cut between the operator sets, what is left is a whole model that lacks one it does not use.
        if onnx_parses(data[:length]):
            assert [node.op for node in load_graph(data[:length]).nodes] == ["MatMul", "Add"]
        else:
            with pytest.raises(ModelError):
                load_graph(data[:length])


def onnx_parses(data):
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except Exception:  # noqa: BLE001 - whatever onnx raises, it does not parse
        return False
    return [(entry.domain, entry.version) for entry in model.opset_import][:1] == [("", 13)]


def test_damaged_bytes_give_a_graph_or_a_clear_error(proto):
    data = proto.SerializeToString()
    chance = random.Random(0)
    refused = 0
    for _ in range(500):
        damaged = bytearray(data)
        for _ in range(chance.randint(1, 3)):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        try:
            load_graph(bytes(damaged))
        except ToolchainError:
            refused += 1
    assert refused > 100


def test_an_old_opset_is_refused(proto):
    proto.opset_import[0].version = 6
    with pytest.raises(ModelError, match=r"opset 6, in which .* differ from opset 7") as raised:
        load_graph(proto)
    assert "version_converter" in raised.value.hint


def test_an_invalid_model_is_refused(proto):
    proto.graph.node[1].input[0] = "nobody_makes_this"
    with pytest.raises(ModelError, match="nobody_makes_this"):
        load_graph(proto)


def test_a_tensor_of_the_wrong_size_is_refused(proto):
    tensor = numpy_helper.from_array(np.zeros((3, 2), np.float32), "w")
    tensor.raw_data = tensor.raw_data[:-4]
    proto.graph.initializer[0].CopyFrom(tensor)
    with pytest.raises(ModelError, match="not a valid ONNX model"):
        load_graph(proto)


def test_a_huge_sparse_tensor_is_refused_before_it_is_made(proto):
    del proto.graph.initializer[:1]
    values, indices = numpy_helper.from_array(np.ones(1, np.float32), "w"), numpy_helper.from_array(np.array([0]))
    proto.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [2**20, 2**20]))
    with pytest.raises(ModelError, match="too many"):
        load_graph(proto)


def test_external_data_are_read_from_beside_the_file(external):
    graph = load_graph(external)
    np.testing.assert_array_equal(graph.initializers["w"], [[1, 2], [3, 4], [5, 6]])
    assert not any(tensor.external_data for tensor in graph.proto.graph.initializer)


def test_external_data_of_a_constant_node_are_read(external):
    proto = onnx.load(external, load_external_data=False)
    weight = next(tensor for tensor in proto.graph.initializer if tensor.name == "w")
    proto.graph.node.insert(0, helper.make_node("Constant", [], ["w"], value=weight))
    proto.graph.initializer.remove(weight)
    external.write_bytes(proto.SerializeToString())
    np.testing.assert_array_equal(load_graph(external).initializers["w"], [[1, 2], [3, 4], [5, 6]])


def test_missing_external_data_are_named(external):
    (external.parent / "weights.bin").unlink()
    with pytest.raises(ModelError, match=r"'w'.*'weights\.bin'.*missing") as raised:
        load_graph(external)
    assert "copy" in raised.value.hint


def test_external_data_that_are_too_short_are_refused(external):
    (external.parent / "weights.bin").write_bytes(bytes(20))
    with pytest.raises(ModelError, match="has 20 bytes, 32 expected"):
        load_graph(external)


@pytest.mark.parametrize(
    "location",
    ["../weights.bin", "/etc/passwd", "a/../../weights.bin", "..\\weights.bin", "C:\\weights.bin", "w\0.bin"],
)
def test_external_data_may_not_leave_the_folder(external, location):
    set_location(external, location)
    with pytest.raises(ModelError, match="outside the model's folder"):
        load_graph(external)


def test_a_download_cache_of_links_is_read(external):
    cache = external.parent
    (cache / "blobs").mkdir()
    snapshot = cache / "snapshots" / "main"
    snapshot.mkdir(parents=True)
    for name, blob in {"model.onnx": "1a", "weights.bin": "2b"}.items():
        (cache / name).rename(cache / "blobs" / blob)
        (snapshot / name).symlink_to(f"../../blobs/{blob}")
    graph = load_graph(snapshot / "model.onnx")
    np.testing.assert_array_equal(graph.initializers["w"], [[1, 2], [3, 4], [5, 6]])
    assert model_files(snapshot / "model.onnx") == [snapshot / "model.onnx", snapshot / "weights.bin"]


def test_external_data_may_not_leave_the_folder_by_a_linked_folder(tmp_path, external):
    elsewhere = tmp_path.parent / f"{tmp_path.name}-elsewhere"
    elsewhere.mkdir()
    (tmp_path / "weights.bin").rename(elsewhere / "weights.bin")
    (tmp_path / "linked").symlink_to(elsewhere)
    set_location(external, "linked/weights.bin")
    with pytest.raises(ModelError, match="outside the model's folder"):
        load_graph(external)


def test_external_data_that_are_a_device_or_a_circle_of_links_are_refused(tmp_path, external):
    (tmp_path / "weights.bin").unlink()
    for target in ("/dev/zero", "weights.bin"):
        (tmp_path / "weights.bin").symlink_to(target)
        with pytest.raises(ModelError, match=r"weights\.bin"):
            load_graph(external)
        (tmp_path / "weights.bin").unlink()


def test_external_data_with_a_nonsense_offset_are_refused(external):
    proto = onnx.load(external, load_external_data=False)
    for tensor in proto.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "offset":
                entry.value = "-8"
    external.write_bytes(proto.SerializeToString())
    with pytest.raises(ModelError, match="'w'"):
        load_graph(external)


def external_model(path, length):
    """Write a model of one MatMul by ``length`` zeros that lie in a file with a hole for content."""
    proto = onnx.parser.parse_model(TEXT)
    proto.graph.initializer[0].CopyFrom(
        TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[3, length], data_location=TensorProto.EXTERNAL)
    )
    proto.graph.initializer[0].external_data.add(key="location", value="zeros.bin")
    path.write_bytes(proto.SerializeToString())
    with path.with_name("zeros.bin").open("wb") as file:
        file.truncate(12 * length)


def test_a_model_beyond_2_gib_is_mapped(tmp_path):
    external_model(tmp_path / "model.onnx", 200_000_000)
    graph = load_graph(tmp_path / "model.onnx")
    assert graph.is_mapped
    assert len(graph.proto.SerializeToString()) < 1000
    weight = graph.initializers["w"]
    assert isinstance(weight, np.memmap)
    assert weight.shape == graph.initializers.shape("w") == (3, 200_000_000)
    assert not weight[2, -100:].any()
    np.testing.assert_array_equal(graph.initializers["b"], [1, 2])


def test_a_small_model_is_not_mapped(tmp_path):
    external_model(tmp_path / "model.onnx", 1000)
    assert not load_graph(tmp_path / "model.onnx").is_mapped


def test_mapped_values_are_those_of_the_file(tmp_path):
    external_model(tmp_path / "model.onnx", 1000)
    values = np.random.default_rng(0).standard_normal((3, 1000)).astype(np.float32)
    (tmp_path / "zeros.bin").write_bytes(values.tobytes())
    initializers = load_graph(tmp_path / "model.onnx", largest=10_000).initializers
    np.testing.assert_array_equal(initializers["w"], values)
    np.testing.assert_array_equal(initializers.own("w"), values)


@pytest.mark.parametrize("read", ["__getitem__", "own"])
def test_a_mapped_file_that_was_written_to_is_refused(tmp_path, read):
    external_model(tmp_path / "model.onnx", 1000)
    initializers = load_graph(tmp_path / "model.onnx", largest=10_000).initializers
    (tmp_path / "zeros.bin").write_bytes(bytes(12_001))
    with pytest.raises(ModelError, match=r"zeros\.bin.*written to since"):
        getattr(initializers, read)("w")


def test_small_external_tensors_are_read_where_large_ones_are_mapped(external):
    graph = load_graph(external, largest=10)
    assert not graph.is_mapped
    np.testing.assert_array_equal(graph.initializers["w"], [[1, 2], [3, 4], [5, 6]])


def test_a_file_beyond_2_gib_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "model.onnx"
    with path.open("wb") as file:
        file.truncate(2**31)
    with pytest.raises(ModelError, match=r"2,147,483,648 bytes, ONNX allows 2 GiB") as raised:
        load_graph(path)
    assert "save_as_external_data" in raised.value.hint


@pytest.mark.parametrize(
    "convert", [lambda proto: proto, lambda proto: proto.SerializeToString()], ids=["proto", "bytes"]
)
def test_bytes_and_a_proto_cannot_have_external_data(external, monkeypatch, convert):
    monkeypatch.chdir(external.parent)  # nor is the present folder taken for the model's
    with pytest.raises(ModelError, match=r"'w'.*whose folder is not known") as raised:
        load_graph(convert(onnx.load(external, load_external_data=False)))
    assert "path" in raised.value.hint


def test_keys_of_external_data_that_are_not_known_are_passed_over(external):
    proto = onnx.load(external, load_external_data=False)
    next(tensor for tensor in proto.graph.initializer if tensor.name == "w").external_data.add(key="extra", value="1")
    external.write_bytes(proto.SerializeToString())
    np.testing.assert_array_equal(load_graph(external).initializers["w"], [[1, 2], [3, 4], [5, 6]])


@pytest.mark.parametrize(("count", "sound"), [(2, True), (200, False)])
def test_tensors_may_share_bytes_of_a_file_but_not_without_measure(tmp_path, count, sound):
    model = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 21]> net (float[512,512] x) => (float[512,512] y) { y = Identity (x) }'
    )
    for number in range(count):
        weight = model.graph.initializer.add(name=f"w{number}", data_type=TensorProto.FLOAT, dims=[512, 512])
        weight.data_location = TensorProto.EXTERNAL
        weight.external_data.add(key="location", value="weights.bin")
    (tmp_path / "weights.bin").write_bytes(bytes(2**20))
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    if sound:
        assert len(load_graph(path).initializers) == count
    else:
        with pytest.raises(ModelError, match=r"200 tensors, the first of them 'w0', share 1,048,576 bytes"):
            load_graph(path)
