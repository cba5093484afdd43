import numpy as np
import onnx.parser
import pytest

from calibration.data import Preprocessing
from toolchain.errors import DataError
from toolchain.graph import load_graph
from toolchain.module import OnnxModule
from toolchain.running.workload import NO_DATA, load_workload


def module_of(signature, body, batch="N"):
    text = f'<ir_version: 8, opset_import: ["" : 17]> g (float[{batch}, 3] x) => ({signature}) {{ {body} }}'
    return OnnxModule(load_graph(onnx.parser.parse_model(text))).eval()


@pytest.fixture
def module():
    return module_of("float[N, 3] y", "y = Identity(x)")


@pytest.fixture
def save(tmp_path):
    """Samples whose largest value is at the label, which the identity therefore answers without a mistake."""

    def write(name, count=40, seed=0, labels=True, **more):
        y = np.random.default_rng(seed).integers(0, 3, count)
        x = np.eye(3, dtype=np.float32)[y] + np.random.default_rng(seed).normal(0, 0.1, (count, 3)).astype(np.float32)
        arrays = {"x": x} | ({"labels": y} if labels else {}) | more
        np.savez(tmp_path / name, **arrays)
        return str(tmp_path / name)

    return write


def load(module, data, evaluation=None):
    return load_workload(module, data, evaluation, Preprocessing(), 0)


class TestEvaluation:
    def test_the_training_data_under_any_name_are_refused(self, module, save, tmp_path):
        data = save("train.npz")
        (tmp_path / "link.npz").symlink_to(data)
        (tmp_path / "folder").mkdir()
        names = (data, str(tmp_path / "link.npz"), str(tmp_path / "folder" / ".." / "train.npz"), save("copy.npz"))
        for name in names:
            with pytest.raises(DataError, match=r"names the samples that .* trains on") as caught:
                load(module, data, name)
            assert "leave --eval out" in caught.value.hint

    def test_a_source_with_a_test_part_of_its_own_may_be_named_twice(self, module, tmp_path):
        rng = np.random.default_rng(0)
        arrays = {name: rng.normal(size=(size, 3)).astype(np.float32) for name, size in (("train", 30), ("test", 10))}
        labels = {f"y_{name}": np.zeros(len(array), np.int64) for name, array in arrays.items()}
        np.savez(tmp_path / "both.npz", **{f"x_{name}": array for name, array in arrays.items()}, **labels)
        path = str(tmp_path / "both.npz")
        assert len(load(module, path, path).split.evaluation) == 10

    def test_other_samples_of_the_same_number_are_accepted(self, module, save):
        workload = load(module, save("a.npz"), save("b.npz", seed=1))
        assert workload.notes[-1].startswith("Accuracy is measured on 40 samples from")

    def test_without_training_data_the_notes_say_so_and_what_is_measured(self, module, save):
        workload = load(module, None, save("eval.npz"))
        assert NO_DATA in workload.notes
        assert workload.notes[-1].startswith("Accuracy is measured on 40 samples")
        assert workload.split.train.kind == "synthetic"
        assert workload.classes == "y"

    def test_labels_on_one_side_only_are_said_as_they_are(self, module, save):
        trained = load(module, save("a.npz"), save("b.npz", seed=1, labels=False))
        judged = load(module, save("c.npz", labels=False), save("d.npz", seed=1))
        assert "accuracy was not measured" in trained.notes[-1]
        assert judged.notes[-1].startswith("Accuracy is measured")
        assert (trained.classes, judged.classes) == ("y", "y")


class TestClasses:
    def test_without_labels_there_is_no_class_output(self, module, save):
        assert load(module, save("a.npz", labels=False)).classes is None

    @pytest.mark.parametrize("batch", ["N", 4])
    def test_of_several_outputs_the_labels_speak_of_the_most_accurate(self, save, batch):
        module = module_of(f"float[{batch}, 3] wrong, float[{batch}, 3] right", "wrong = Neg(x) right = Relu(x)", batch)
        assert load(module, save("a.npz")).classes == "right"

    def test_scores_with_trailing_ones_and_an_open_shape_are_found(self, save):
        axes = "axes = Constant<value_ints = [2, 3]>()"
        module = module_of("float[K, L] one, float[N, A, B, C] y", f"{axes} y = Unsqueeze(x, axes) one = ReduceMax(x)")
        assert load(module, save("a.npz")).classes == "y"

    def test_one_score_per_sample_cannot_answer_labels(self, save):
        module = module_of("float[N, 1] y", "y = ReduceMax<axes = [1]>(x)")
        with pytest.raises(DataError, match=r"no output .* of two or more classes; .*'y' \[2, 1\]") as caught:
            load(module, save("a.npz"))
        assert "leave the labels out" in caught.value.hint

    def test_a_label_without_a_class_is_refused_wherever_it_is(self, module, save):
        with pytest.raises(DataError, match=r"label 3 .* out of range"):
            load(module, save("a.npz"), save("b.npz", seed=1, labels=False, y=np.full(40, 3)))


def test_a_part_smaller_than_a_fixed_batch_is_refused(save):
    module = module_of("float[8, 3] y", "y = Identity(x)", 8)
    with pytest.raises(DataError, match="takes 8 samples at a time"):
        load(module, save("a.npz", count=20))
