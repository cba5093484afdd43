"""Which whole models are worth timing: kernels for all layers, and changes to them."""

from collections.abc import Collection, Iterable, Mapping, Sequence

from toolchain.export.layers import Layer
from toolchain.export.runs import STATIC

Assignment = Mapping[str, str]  # kernel by weight name
Times = Mapping[str, Mapping[str, float]]  # milliseconds of a layer alone, by weight and kernel

# Whole models that are timed, by the kernels that their layers take, the first one that a layer permits.
_ORDERS = (
    ("int8",),
    ("nbits",),
    ("dynamic",),
    ("nbits", "int8"),
    ("dynamic", "int8"),
    ("gathered",),
    ("gathered", "nbits", "int8"),
    ("gathered_int8", "gathered", "nbits", "int8"),
)


def candidates(layers: Sequence[Layer], alone: Times) -> list[Assignment]:
    """Return the whole models to time, all float first, each once."""
    found: list[Assignment] = [{layer.weight: "float" for layer in layers}]
    found.append({weight: _fastest(times, ()) for weight, times in alone.items()})
    # Alone, a convolution in integers pays for roundings that it is spared inside of a run.
    found.append(
        {layer.weight: _fastest(alone[layer.weight], STATIC if layer.nodes[0].op == "Conv" else ()) for layer in layers}
    )
    found.extend(
        {layer.weight: first_permitted(layer, order, alone[layer.weight]) for layer in layers} for order in _ORDERS
    )
    return [item for index, item in enumerate(found) if item not in found[:index]]


def first_permitted(layer: Layer, order: Sequence[str], permitted: Collection[str]) -> str:
    """Return the first kernel of an order that is permitted; of a convolution, nbits is the last resort."""
    names = sorted(order, key=lambda name: name == "nbits") if layer.nodes[0].op == "Conv" else order
    return next((name for name in names if name in permitted), "float")


def _fastest(times: Mapping[str, float], wanted: Sequence[str]) -> str:
    """Return the fastest of the wanted kernels; of all, where a layer has none of them."""
    return min([name for name in wanted if name in times] or times, key=lambda kernel: times[kernel])


def single_flips(best: Assignment, alone: Times) -> list[Assignment]:
    """Return the changes of one layer to a kernel that is faster alone, those first that gain most by it there."""
    found = [
        (times[best[weight]] - took, weight, kernel)
        for weight, times in alone.items()
        if best[weight] in times
        for kernel, took in times.items()
        if kernel != best[weight] and took < times[best[weight]]
    ]
    return [{weight: kernel} for _, weight, kernel in sorted(found, reverse=True)]


def joint_flips(groups: Iterable[Sequence[str]], best: Assignment, alone: Times) -> list[Assignment]:
    """Return the changes of all layers of a group to one kernel, those first that lose least by it alone."""
    found: list[tuple[float, Assignment]] = []
    for weights in (weights for weights in groups if len(weights) > 1):
        for kernel in dict.fromkeys(name for weight in weights for name in alone[weight]):
            flip = {
                weight: kernel
                for weight in weights
                if kernel in alone[weight] and best[weight] in alone[weight] and kernel != best[weight]
            }
            if flip:
                found.append((sum(alone[weight][kernel] - alone[weight][best[weight]] for weight in flip), flip))
    return [flip for _, flip in sorted(found, key=lambda item: item[0])]
