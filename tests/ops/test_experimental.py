import numpy as np
import pytest

X = np.random.default_rng(0).standard_normal((2, 3, 6, 5)).astype(np.float32)


@pytest.mark.parametrize(
    ("operator", "attributes"),
    [
        ("Affine", {"alpha": 1.5, "beta": -0.5}),
        ("Crop", {"border": [1, 0, 2, 3]}),
        ("ImageScaler", {"bias": [1.0, -2.0, 0.5], "scale": 3.0}),
        ("ParametricSoftplus", {"alpha": 2.0, "beta": 0.5}),
        ("Scale", {"scale": -4.0}),
        ("ScaledTanh", {"alpha": 2.0, "beta": 0.5}),
    ],
)
def test_withdrawn_operators_agree(agree, operator, attributes):
    agree(operator, {"x": X}, opset=8, **attributes)
