import io
import json
import zipfile

import jsonschema
import numpy as np
import pytest
from small_run import write_small

from toolchain.bench import probe
from toolchain.bench.foreign import (
    SCHEMA,
    check_environment,
    check_result,
    read_arrays,
    read_json,
    reason,
    understood,
)
from toolchain.bench.inputs import prepare
from toolchain.bench.measurement import save_feeds
from toolchain.errors import HostError
from toolchain.graph import load_graph


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """A job with one case of two models, and what the probe makes of it as text."""
    folder = tmp_path_factory.mktemp("foreign")
    model, _ = write_small(folder)
    prepared = prepare(load_graph(model), 2, {}, None, "model")
    path = save_feeds(prepared.feeds, folder / "feeds.npz")
    case = probe.Case(str(path), tuple(prepared.feeds), batch=2, threads=1)
    models = [probe.Model(name, str(model)) for name in ("a", "b")]
    job = probe.Job(models, [case], seconds=0.1, measure=("latency", "layers", "outputs"))
    return job, json.dumps(probe.run(job, folder, lambda _what, _done: None))


@pytest.fixture
def sent(measured):
    """The job, and a copy of the result, to be changed."""
    job, text = measured
    return job, json.loads(text)


def test_the_schema_itself_is_valid_and_of_the_format_of_the_probe():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["properties"]["format"]["const"] == probe.FORMAT


def test_what_the_probe_measures_passes_unchanged(sent):
    job, result = sent
    assert check_result(result, job) == result
    assert check_environment(result["environment"]) == result["environment"]


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("format",), 2),
        (("environment", "cores"), "2"),
        (("environment", "cpu"), ["cpu"]),
        (("cases",), []),
        (("cases", 0, "provider"), "CUDAExecutionProvider"),
        (("cases", 0, "batch"), 3),
        (("cases", 0, "threads"), 0),
        (("cases", 0, "device"), None),
        (("cases", 0, "timed"), [0, 0]),
        (("cases", 0, "timed"), [0]),
        (("cases", 0, "timing_s"), 0),
        (("cases", 0, "loads_ms"), [["1", "2"]]),
        (("cases", 0, "rounds_ms", 0, 0), [1.0]),
        (("cases", 0, "rounds_ms", 0, 0, 0), 0),
        (("cases", 0, "rounds_ms", 0, 0, 0), -1.0),
        (("cases", 0, "rounds_ms", 0, 0, 0), None),
        (("cases", 0, "rounds_ms", 0, 0, 0), 10**400),
        (("cases", 0, "models"), []),
        (("cases", 0, "models", 0, "error"), "text"),
        (("cases", 0, "models", 0, "memory"), {"load_bytes": 1}),
        (("cases", 0, "models", 0, "memory", "peak_bytes"), 10**400),
        (("cases", 0, "models", 0, "layers", 0, "name"), 1),
        (("cases", 0, "models", 0, "outputs", 0, "array"), -1),
    ],
)
def test_what_the_probe_would_not_say_is_refused(sent, place, value):
    job, result = sent
    part = result
    for key in place[:-1]:
        part = part[key]
    part[place[-1]] = value
    with pytest.raises(HostError, match="pi sent what is no result of a measurement"), understood("pi"):
        check_result(result, job)


def test_texts_lose_what_a_terminal_would_obey(sent):
    job, result = sent
    result["cases"][0]["device"] = "\x1b[2J board"
    result["cases"][0]["models"][0]["error"] = {"stage": "run", "message": "\x1b]0;title\x07"}
    assert "\x1b" not in str(check_result(result, job)["cases"])
    assert check_result(result, job)["cases"][0]["device"] == " [2J board"


@pytest.mark.parametrize("text", ["NaN", "[-Infinity]", '{"a": 1e999}'])
def test_numbers_that_are_not_finite_are_no_json(text):
    with pytest.raises(ValueError, match="no finite number"):
        read_json(text.encode())
    assert read_json(b'{"a": 1.5}') == {"a": 1.5}


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (KeyError("kind"), "'kind' is missing"),
        (UnicodeDecodeError("utf-8", b"\xff" * 10**6, 0, 1, "invalid"), "it is no text"),
        (ValueError("\x1b" + "a" * 10**6), " " + "a" * 299),
        (ValueError(), "ValueError"),
    ],
)
def test_the_reason_is_short_whatever_was_sent(error, said):
    assert reason(error) == said


def packed(save, *arrays):
    stream = io.BytesIO()
    save(stream, *arrays)
    return stream.getvalue()


def test_arrays_come_back_in_order():
    assert [array.tolist() for array in read_arrays(packed(np.savez, np.ones(2), np.zeros(1)))] == [[1, 1], [0]]


def test_arrays_that_would_unpack_to_more_than_was_sent_are_refused():
    with pytest.raises(ValueError, match="compressed"):
        read_arrays(packed(np.savez_compressed, np.zeros(1 << 20)))


def test_arrays_of_objects_are_never_unpickled():
    with pytest.raises(ValueError, match="allow_pickle"):
        read_arrays(packed(np.savez, np.array([object], dtype=object)))


def test_an_array_that_claims_to_be_larger_than_it_is_is_an_error():
    stream, header = io.BytesIO(), io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (10**15,)})
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("arr_0.npy", header.getvalue() + bytes(8))
    with pytest.raises(HostError, match="pi sent"), understood("pi"):
        read_arrays(stream.getvalue())


def test_what_is_no_archive_is_an_error():
    with pytest.raises(HostError, match="pi sent no arrays"), understood("pi"):
        read_arrays(b"not at all")
