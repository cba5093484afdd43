"""What tests of several parts of the tool share."""

import pytest
from pipeline_cases import CONVOLUTIONAL, write, write_data


@pytest.fixture
def recipe_file(tmp_path):
    """Return what writes a recipe and returns its path."""

    def write(text):
        path = tmp_path / "recipe.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture
def model(tmp_path):
    """Return the path of a small convolutional model."""
    return write(CONVOLUTIONAL, tmp_path / "model.onnx")


@pytest.fixture
def data(tmp_path):
    """Return the path of data for that model."""
    return write_data(tmp_path / "data.npz")
