"""What the operators do not do, one table for the tests and the benchmarks; what starts to work must leave it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Gap:
    """Why an official case does not pass.

    Attributes:
        reason: for people.
        always: False where it depends on the machine or on chance whether the case fails.
    """

    reason: str
    always: bool = True


HALF = Gap("the expected values are rounded to float16 after every step; here, only the result is", always=False)
RANDOM = Gap("random output", always=False)
TRAINING = Gap("an operator that trains a model; import is for inference")
LOCALE = Gap("ONNX Runtime's StringNormalizer needs the locale en_US.UTF-8 installed", always=False)

# Official cases that do not pass, by the pattern of their names.
KNOWN_GAPS = {
    "test_adagrad*": TRAINING,
    "test_adam*": TRAINING,
    "test_momentum*": TRAINING,
    "test_nesterov_momentum": TRAINING,
    "test_attention_4d_fp16": HALF,
    "test_attention_4d_causal_fp16*": HALF,
    "test_bernoulli*": RANDOM,
    "test_training_dropout": RANDOM,
    "test_training_dropout_mask": RANDOM,
    "test_training_dropout_default*": RANDOM,
    "test_dft_inverse*": Gap("where 0 is right, 2e-7 is expected, and allowed is half of it", always=False),
    "test_equal_string*": Gap("strings"),
    "test_image_decoder_*": Gap("neither this toolchain nor ONNX Runtime decodes images"),
    "test_maxunpool_export_with_output_shape": Gap("ONNX Runtime takes indices as they are, and so do we"),
    "test_gradient_of_*": TRAINING,
    "test_resize_downsample_scales_*_align_corners": Gap("ONNX Runtime divides by the rounded size, and so do we"),
    "test_strnorm*_monday_casesensintive_lower": LOCALE,
    "test_strnorm*_monday_casesensintive_upper": LOCALE,
    "test_strnorm*_monday_empty_output": LOCALE,
    "test_strnorm*_monday_insensintive_upper_twodim": LOCALE,
}

# Operators without an official case of their own; of com.microsoft none has one, each has tests beside it.
NO_CASE = {
    **dict.fromkeys(
        ("Affine", "Crop", "ImageScaler", "ParametricSoftplus", "Scale", "ScaledTanh"),
        "withdrawn before the cases were made; tests/ops/test_experimental.py has some",
    ),
    **dict.fromkeys(
        ("Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"),
        "random results; tests/ops/test_random.py has some",
    ),
    "GlobalLpPool": "none exists; tests/ops/test_against_onnxruntime.py has one",
    "MaxRoiPool": "none exists; tests/ops/test_regions.py has one",
    "SimplifiedLayerNormalization": "ONNX Runtime's own; tests/ops/test_normalization.py has one",
}

# Operators of which no official case has a gradient, by reason.
NO_GRADIENT = {
    "the results are integers, truth values or sizes": (
        "And ArgMax ArgMin BitCast BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor ConvInteger Equal Greater "
        "GreaterOrEqual IsInf IsNaN Less LessOrEqual MatMulInteger NonMaxSuppression NonZero Not OptionalHasElement Or "
        "SequenceLength Shape Size Xor"
    ),
    "the results change in steps": "Ceil Floor Hardmax MelWeightMatrix Round Sign",
    "the results are random": "Bernoulli Multinomial RandomNormal RandomNormalLike RandomUniform RandomUniformLike",
    "what goes in is taken as plain numbers": "Range",
    "no float tensor goes in": (
        "BlackmanWindow ConcatFromSequence ConstantOfShape EyeLike HammingWindow HannWindow If Optional SequenceAt "
        "SequenceConstruct SequenceEmpty SequenceErase SequenceInsert Trilu"
    ),
}

# Operators that round: the gradient is passed as if they did not, so it is not the slope of what they compute.
STRAIGHT_THROUGH = ("DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul", "QuantizeLinear")

# Inputs that pass no gradient although the result depends on them, by operator and the name in its schema.
NO_GRADIENT_TO = {
    ("BatchNormalization", "input_mean"): "running statistics do not train",
    ("BatchNormalization", "input_var"): "running statistics do not train",
    ("Dropout", "ratio"): "it is taken as a plain number",
    ("Pad", "constant_value"): "it is taken as a plain number",
    ("Resize", "roi"): "positions are computed from it",
    ("Resize", "scales"): "sizes and positions are computed from it",
    ("Upsample", "scales"): "sizes and positions are computed from it",
}

# Real models of which not every weight gets a gradient from the outputs, and why.
TRAINS_IN_PART = {
    "ppocr_rec_en_number": "no result depends on the other weights, which are below 1e-8",
    "tinyvit_demo": "no result depends on the other weights at this input",
    "traffic_sign_bnn": "Sign changes in steps",
}

# Real models that training cannot improve, and why.
DOES_NOT_TRAIN = {"yolov8n_int8": "its weights are int8; the one float vector that counts as a weight is its strides"}
