"""Models that come with quantized operators: which those are, and what is left to do."""

from collections import Counter
from collections.abc import Mapping

from toolchain.execution.trainable import usable_weights
from toolchain.graph import Graph

# Of ai.onnx and com.microsoft: operators that take, make or hold quantized tensors.
QUANTIZED = frozenset(
    (
        *("ConvInteger", "DequantizeBFP", "DequantizeLinear", "DequantizeWithOrder", "DynamicQuantizeLSTM"),
        *("DynamicQuantizeLinear", "DynamicQuantizeMatMul", "GatherBlockQuantized", "MatMulBlockQuantizedFp4Weight"),
        *("MatMulBlockQuantizedFp8Weight", "MatMulBnb4", "MatMulFpQ4", "MatMulInteger", "MatMulInteger16"),
        *("MatMulIntegerToFloat", "MatMulNBits", "MatMulNBitsMlp", "MatMulNBitsQkv", "MulInteger", "QAttention"),
        *("QEmbedLayerNormalization", "QGemm", "QLinearAdd", "QLinearAveragePool", "QLinearConcat", "QLinearConv"),
        *("QLinearGlobalAveragePool", "QLinearLeakyRelu", "QLinearMatMul", "QLinearMul", "QLinearReduceMean"),
        *("QLinearSigmoid", "QLinearSoftmax", "QLinearWhere", "QMoE", "QOrderedAttention", "QOrderedGelu"),
        *("QOrderedLayerNormalization", "QOrderedLongformerAttention", "QOrderedMatMul", "QuantizeBFP"),
        *("QuantizeLinear", "QuantizeWithOrder", "ReduceSumInteger"),
    )
)
# Which of them make floats of constants; what else computes from constants alone only unpacks a tensor at load.
_DEQUANTIZING = {"DequantizeBFP", "DequantizeLinear", "DequantizeWithOrder"}


def quantized_operators(graph: Graph) -> dict[str, int]:
    """Return how many nodes there are of each quantized operator, most frequent first."""
    counts: Counter[str] = Counter()
    constant = {"", *graph.initializers}
    for node in graph.walk():
        unpacks = constant.issuperset(node.inputs) and not node.bodies
        if unpacks:
            constant.update(node.outputs)
        if node.op in QUANTIZED and (not unpacks or node.op in _DEQUANTIZING):
            counts[node.op] += 1
    return dict(counts.most_common())


def quantized_note(graph: Graph) -> str:
    """Return what becomes of a model that is quantized already; empty where it is not."""
    counts = quantized_operators(graph)
    if not counts:
        return ""
    left = [weight for weight in usable_weights(graph) if not weight.reason]
    tensors = f"{len(left)} float tensor{'s' if len(left) > 1 else ''}"
    return (
        f"The model is quantized already, in {count_nodes(counts)}. Weights of those are neither pruned nor quantized "
        f"again; {tensors} with {sum(weight.size for weight in left):,} weights can be."
    )


def count_nodes(counts: Mapping[str, int]) -> str:
    """Return numbers of nodes by operator as a person reads them: ``12 nodes (QLinearConv 10, QLinearAdd 2)``."""
    total = sum(counts.values())
    listed = ", ".join(f"{name} {count}" for name, count in counts.items())
    return f"{total} node{'s' if total > 1 else ''} ({listed})"
