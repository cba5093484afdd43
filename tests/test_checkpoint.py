import pytest
import torch
from safetensors.torch import save_file

from toolchain import checkpoint as module
from toolchain.checkpoint import Checkpoint, check_checkpoint, differences
from toolchain.errors import CheckpointError

STATE = {
    "step": 7,
    "average": 0.1 + 0.2,
    "nothing": None,
    "log": [{"phase": "prune", "loss": float("inf")}],
    "rng": {"state": 2**127 + 1},
    "optimizer": {0: {"exp_avg": torch.arange(6.0).reshape(2, 3)}, 12: {"step": torch.tensor(3.0)}},
    "map": {"tensor": "a name like any other", "map": [["so", "is"], ["this", torch.zeros(0)]]},
    "types": [torch.tensor([True, False]), torch.tensor([1.5], dtype=torch.bfloat16), torch.arange(3)],
}


@pytest.fixture
def told():
    return []


@pytest.fixture
def checkpoint(tmp_path, told):
    return make(tmp_path, told)


def make(folder, told=None, **identity):
    tell = (lambda _: None) if told is None else told.append
    return Checkpoint(folder / "small.checkpoint.safetensors", identity or {"model": "abc"}, tell)


def same(left, right):
    if isinstance(left, torch.Tensor):
        return left.dtype == right.dtype and torch.equal(left, right)
    if isinstance(left, dict):
        return list(left) == list(right) and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list):
        return len(left) == len(right) and all(map(same, left, right))
    return type(left) is type(right) and left == right


def test_a_tree_of_tensors_and_json_values_comes_back_bit_for_bit_in_its_order(checkpoint):
    checkpoint.write(STATE)
    assert same(checkpoint.read(), STATE)
    assert not same(checkpoint.read(), STATE | {"step": 8})


def test_a_tensor_that_occurs_twice_is_written_once_and_views_are_copied(checkpoint):
    mask = torch.ones(100_000)
    checkpoint.write({"one": mask, "two": mask, "again": mask.detach(), "part": mask[5:9], "turned": mask.view(10, -1)})
    state = checkpoint.read()
    assert state["one"] is state["two"] is state["again"]
    assert (state["part"].shape, state["turned"].shape) == ((4,), (10, 10_000))
    assert checkpoint.path.stat().st_size < 2.2 * mask.nbytes


def test_a_file_that_was_never_finished_is_not_read_and_goes_with_the_checkpoint(checkpoint, monkeypatch):
    checkpoint.write({"step": 1})

    def torn(_tensors, path, _metadata):
        path.write_bytes(b"half of a state")
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "save_file", torn)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.write({"step": 2})
    assert checkpoint.read() == {"step": 1}
    assert len(list(checkpoint.path.parent.iterdir())) == 2
    checkpoint.remove()
    assert list(checkpoint.path.parent.iterdir()) == []


@pytest.mark.parametrize("position", [3, 40, 200, -1])
def test_a_damaged_byte_anywhere_is_an_error(checkpoint, position):
    checkpoint.write({"weights": torch.arange(100.0), "step": 3})
    data = bytearray(checkpoint.path.read_bytes())
    data[position] ^= 0x20
    checkpoint.path.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"damaged|not a checkpoint|of another run"):
        checkpoint.read()


def test_a_file_that_ends_early_is_damaged_and_the_error_says_what_to_do(checkpoint):
    checkpoint.write(STATE)
    checkpoint.path.write_bytes(checkpoint.path.read_bytes()[:-8])
    for act in (checkpoint.read, lambda: check_checkpoint(checkpoint.path)):
        with pytest.raises(CheckpointError, match="is damaged") as caught:
            act()
        assert "rm " in caught.value.hint


def test_somebody_elses_safetensors_file_is_no_checkpoint(checkpoint):
    save_file({"weight": torch.zeros(3)}, checkpoint.path)
    for act in (checkpoint.read, lambda: check_checkpoint(checkpoint.path)):
        with pytest.raises(CheckpointError, match="is not a checkpoint"):
            act()


def test_a_checkpoint_of_another_run_is_refused_and_the_error_names_what_differs(tmp_path):
    make(tmp_path, model="abc", plan={"steps": [{"kept": 3}], "train": {"epochs": 3, "seed": 0}}).write({})
    other = make(tmp_path, model="abc", plan={"steps": [{"kept": 4}], "train": {"epochs": 5, "seed": 0}})
    with pytest.raises(CheckpointError) as caught:
        other.read()
    assert "plan.steps[0].kept was 3 and is 4; plan.train.epochs was 3 and is 5" in str(caught.value)


def test_differences_are_named_by_key_and_long_values_are_cut():
    assert differences({"a": 1, "b": [1, 2]}, {"a": 1, "b": [1, 2]}) == []
    assert differences({"a": None}, {"a": "x" * 99}) == ['a was nothing and is "xxxxxxxxxxxxxxxxxxxx...']
    assert differences({"b": [1]}, {"b": [1, 2]}) == ["b[1] was nothing and is 2"]
    assert differences({"gone": 1}, {}) == ["gone was 1 and is nothing"]


def test_states_are_asked_for_once_an_interval_and_at_the_end_of_a_phase(checkpoint, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    asked = []

    def offer(seconds, boundary=False):
        now[0] += seconds
        checkpoint.offer(lambda: {"at": asked.append(now[0])}, boundary)
        return len(asked)

    assert [offer(0), offer(59), offer(1), offer(1), offer(1, boundary=True)] == [1, 1, 2, 2, 3]


def test_writing_takes_a_small_part_of_the_time_and_a_state_that_was_due_is_written_later(checkpoint, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    asked = []

    def slow():
        asked.append(now[0])
        now[0] += 4.0
        return {}

    for _ in range(1000):
        now[0] += 1.0
        checkpoint.offer(slow, boundary=len(asked) < 2)
    assert len(asked) == 5  # each 4 s, 200 s apart
    now[0] += 1000
    checkpoint.offer(slow)
    assert len(asked) == 6


def test_a_full_disk_does_not_end_the_run_and_leaves_the_last_state(checkpoint, told, monkeypatch):
    monkeypatch.setattr(module, "INTERVAL_S", 0.0)
    monkeypatch.setattr(module, "COST", 1.0)
    checkpoint.write({"step": 1})

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "save_file", full)
    checkpoint.offer(dict, boundary=True)
    checkpoint.offer(dict, boundary=True)
    assert checkpoint.read() == {"step": 1}
    (note,) = told
    assert "No space left on device" in note
