import sys

import numpy as np
import pytest
from PIL import Image

from calibration.data import Preprocessing, load_data
from toolchain.errors import DataError


@pytest.fixture
def model(graph_of):
    return graph_of("g (float[N, 1, 4, 4] x) => (float[N, D] y) { y = Flatten(x) }")


def test_the_form_of_the_spec_decides_how_it_is_read(tmp_path, monkeypatch, model):
    pixels = np.arange(48, dtype=np.uint8).reshape(3, 4, 4)
    np.savez(tmp_path / "d.npz", x=pixels)
    np.save(tmp_path / "d.npy", pixels)
    for index, image in enumerate(pixels):
        (tmp_path / "folder" / "a").mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(tmp_path / "folder" / "a" / f"{index}.png")
    (tmp_path / "spec_source.py").write_text(
        "import numpy as np\ndef batches():\n    yield np.arange(48, dtype=np.uint8).reshape(3, 4, 4)\n"
    )
    monkeypatch.chdir(tmp_path)
    for spec in ("d.npz", "d.npy", "folder", "spec_source:batches"):
        data = load_data(spec, model, Preprocessing(1 / 255)).train
        np.testing.assert_array_equal(data.inputs["x"][:, 0], pixels)
    sys.modules.pop("spec_source")


@pytest.mark.parametrize("spec", ["missing.npz", "missing", "folder/missing.npy", "a/b.py:f"])
def test_what_does_not_exist_is_named_with_the_known_forms(tmp_path, monkeypatch, model, spec):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=f"no data file or folder {spec}") as caught:
        load_data(spec, model, Preprocessing())
    assert "package.module:function" in caught.value.hint


def test_a_file_of_another_type_is_refused(tmp_path, model):
    (tmp_path / "d.csv").write_text("1,2")
    with pytest.raises(DataError, match=r"files of type '\.csv' cannot be read"):
        load_data(str(tmp_path / "d.csv"), model, Preprocessing())
