"""Which slices go with a channel: found in the ONNX file here, in PyTorch's autograd graph by Torch-Pruning.

python benchmarks/channel_groups.py            # needs: pip install torch-pruning torchvision

Every network is exported with its parameters under their names. For a sample of channels of every layer both say which
slices of which parameters must go with it; the sets are compared. Then a random half of all channels is removed
here, and ONNX Runtime compares the result with the network in which the slices of these channels are zero.
"""

import argparse
import copy
import io
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from common import machine, save, table
from onnx import numpy_helper
from torch import Tensor, nn

from toolchain.channels import Channels, find_channels, remove_channels, trace
from toolchain.graph import Graph, load_graph
from toolchain.module import OnnxModule

try:
    import torch_pruning
    import torchvision
except (ImportError, RuntimeError) as error:  # torchvision raises the latter beside a torch that it is not built for
    sys.exit(f"skipped: {error} (torch_pruning and torchvision are not part of the project)")

SAMPLED = 4  # channels of every layer
BOUND = 1e-3  # of the largest result: random networks of dozens of layers
Slice = tuple[str, int, int]  # parameter, dimension, position


class Transformer(nn.Module):
    """Two layers that attend as torch's own do, without what torch runs in one kernel."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer() for _ in range(2))
        self.head = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Run the network on tokens [N, T, 32]."""
        for layer in self.layers:
            x = layer(x)
        scores: Tensor = self.head(x.mean(1))
        return scores


class Layer(nn.Module):
    """Attention of 4 heads and two matrices, each behind a norm."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.second = nn.LayerNorm(32), nn.LayerNorm(32)
        self.query, self.key, self.value, self.out = (nn.Linear(32, 32) for _ in range(4))
        self.up, self.down = nn.Linear(32, 64), nn.Linear(64, 32)

    def forward(self, x: Tensor) -> Tensor:
        """Run the layer."""
        n = self.norm(x)
        q, k, v = (part(n).reshape(2, 16, 4, 8).transpose(1, 2) for part in (self.query, self.key, self.value))
        attended = (q @ k.transpose(2, 3) / 8**0.5).softmax(-1) @ v
        x = x + self.out(attended.transpose(1, 2).reshape(2, 16, 32))
        result: Tensor = x + self.down(nn.functional.gelu(self.up(self.second(x))))
        return result


def image(network: Callable[..., nn.Module], size: int = 64) -> tuple[nn.Module, Tensor]:
    """Return a network of 10 classes and images for it."""
    return network(weights=None, num_classes=10), torch.randn(2, 3, size, size)


def networks() -> Iterator[tuple[str, nn.Module, Tensor]]:
    """Yield networks with inputs."""
    models = torchvision.models
    for name in (
        "resnet18",
        "resnet50",
        "resnext50_32x4d",
        "regnet_x_400mf",
        "mobilenet_v2",
        "mobilenet_v3_small",
        "efficientnet_b0",
        "mnasnet0_5",
        "densenet121",
        "squeezenet1_1",
        "shufflenet_v2_x0_5",
        "convnext_tiny",
    ):
        yield (name, *image(getattr(models, name)))
    yield ("alexnet", *image(models.alexnet, 224))
    yield "googlenet", models.GoogLeNet(num_classes=10, aux_logits=False, init_weights=False), torch.randn(2, 3, 64, 64)
    yield "transformer", Transformer(), torch.randn(2, 16, 32)


def export(network: nn.Module, sample: Tensor) -> Graph:
    """Return the network as ONNX, its parameters under their names."""
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (sample,),
            file,  # type: ignore[arg-type]  # which it takes, but does not say
            dynamo=False,
            opset_version=17,
            training=torch.onnx.TrainingMode.PRESERVE,
            do_constant_folding=False,
            input_names=["x"],
        )
    return load_graph(onnx.load_from_string(file.getvalue()))


class Ours:
    """What this toolchain finds."""

    def __init__(self, network: nn.Module, sample: Tensor) -> None:
        self.graph = export(network, sample)
        started = time.perf_counter()
        self.channels = find_channels(trace(OnnxModule(self.graph).eval(), {"x": sample.numpy()}))
        self.seconds = time.perf_counter() - started
        self.known = {name for name, _ in network.named_parameters()} | {name for name, _ in network.named_buffers()}
        self.makers: dict[tuple[str, int], tuple[int, int]] = {}  # group and channel by weight and output
        for number, group in enumerate(self.channels.groups):
            for part in group.slices:
                if part.role == "makes":
                    for channel, positions in enumerate(part.positions.tolist()):
                        self.makers |= {(part.tensor, position): (number, channel) for position in positions}

    def slices(self, weight: str, output: int) -> tuple[set[Slice], str]:
        """Return what goes with an output of a weight, or why it stays."""
        if (weight, output) not in self.makers:
            return set(), "not found"
        number, channel = self.makers[weight, output]
        group = self.channels.groups[number]
        parts = [part for part in group.slices if part.tensor in self.known]
        found = {(part.tensor, part.axis, place) for part in parts for place in part.positions[channel].tolist()}
        return found, group.reason


class Theirs:
    """What Torch-Pruning finds."""

    def __init__(self, network: nn.Module, sample: Tensor) -> None:
        started = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.graph = torch_pruning.DependencyGraph().build_dependency(network, example_inputs=sample)
        self.seconds = time.perf_counter() - started
        self.names = {module: name for name, module in network.named_modules()}

    def group(self, layer: nn.Module, output: int) -> Any:  # noqa: ANN401 - torch_pruning has no types
        """Return its group for an output of a layer."""
        prune = torch_pruning.prune_linear_out_channels
        if isinstance(layer, nn.Conv2d):
            depthwise = layer.groups == layer.out_channels > 1
            prune = (
                torch_pruning.prune_depthwise_conv_out_channels if depthwise else torch_pruning.prune_conv_out_channels
            )
        return self.graph.get_pruning_group(layer, prune, idxs=[output])

    def slices(self, layer: nn.Module, output: int) -> set[Slice]:
        """Return what goes with an output of a layer."""
        found: set[Slice] = set()
        for dependency, places in self.group(layer, output):
            module, handler = dependency.target.module, dependency.handler.__name__
            if module not in self.names:
                continue
            tensors = dict(module.named_parameters(recurse=False)) | dict(module.named_buffers(recurse=False))
            reads = (
                "in_channels" in handler and "depthwise" not in handler and isinstance(module, nn.Conv2d | nn.Linear)
            )
            for key, tensor in tensors.items():
                if reads and (key == "bias" or tensor.ndim < 2):
                    continue
                if tensor.ndim:
                    found |= {(f"{self.names[module]}.{key}", int(reads), int(place)) for place in places}
        return found


def compare(network: nn.Module, sample: Tensor) -> dict[str, Any]:
    """Return on how many sampled channels both agree, and what differs."""
    ours = Ours(network, sample)
    facts = {"ours_seconds": round(ours.seconds, 2), **shrink(ours.graph, ours.channels, sample)}
    try:
        theirs = Theirs(copy_of(network), sample)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what the table says
        return {"failure": f"{type(error).__name__}: {error}", **facts}
    layers = {name: module for module, name in theirs.names.items() if isinstance(module, nn.Conv2d | nn.Linear)}
    rng = np.random.default_rng(0)
    counts = dict.fromkeys(("same", "kept", "more", "fewer", "other"), 0)
    differing: dict[str, list[str]] = {}
    outcomes: dict[str, str] = {}
    for name, layer in layers.items():
        outputs = layer.weight.shape[0]
        for output in rng.choice(outputs, min(SAMPLED, outputs), replace=False).tolist():
            own, reason = ours.slices(f"{name}.weight", output)
            other = theirs.slices(layer, output)
            kind = relation(own, other, reason)
            counts[kind] += 1
            if kind != "same":
                why = reason or f"{kind}: {len(own)} slices, {len(other)} by Torch-Pruning"
                if not reason and why not in differing:
                    outcomes[why] = outcome(network, sample, name, output)
                differing.setdefault(why, []).append(f"{name}[{output}]")
    return {
        "layers": len(layers),
        "channels": sum(counts.values()),
        **counts,
        "differing": differing,
        "without_theirs": outcomes,
        "theirs_seconds": round(theirs.seconds, 2),
        **facts,
    }


def outcome(network: nn.Module, sample: Tensor, name: str, output: int) -> str:
    """Say whether the network runs once Torch-Pruning has removed the group of one channel.

    Its pruner goes on to remove the same channel of every group of a convolution; its groups alone do not say so.
    """
    pruned = copy_of(network)
    theirs = Theirs(pruned, sample)
    try:
        theirs.group(dict(pruned.named_modules())[name], output).prune()
        pruned(sample)
    except (RuntimeError, ValueError) as error:
        return f"fails without its channel: {error}"
    return "runs without its channel"


def copy_of(network: nn.Module) -> nn.Module:
    """Return the network for Torch-Pruning, which wants gradients."""
    return copy.deepcopy(network).requires_grad_(True)


def relation(own: set[Slice], other: set[Slice], reason: str) -> str:
    """Return how two sets of slices differ."""
    if reason:
        return "kept"
    if own == other:
        return "same"
    return "more" if own > other else "fewer" if own < other else "other"


def shrink(graph: Graph, channels: Channels, sample: Tensor) -> dict[str, Any]:
    """Remove a random half of all channels, and compare with the network in which they are zero."""
    rng = np.random.default_rng(0)
    free = [group for group in channels.groups if not group.reason]
    removed = {group.name: np.sort(rng.permutation(group.count)[: group.count // 2]) for group in free}
    small, zero = remove_channels(graph, channels, removed), onnx.ModelProto()
    zero.CopyFrom(graph.proto)
    arrays: dict[str, np.ndarray] = {}
    for group in free:
        for part in group.slices:
            if part.role != "rides":
                array = arrays.setdefault(part.tensor, graph.initializers.own(part.tensor))
                np.moveaxis(array, part.axis, 0)[part.positions[removed[group.name]].ravel()] = 0
    for tensor in zero.graph.initializer:
        if tensor.name in arrays:
            tensor.CopyFrom(numpy_helper.from_array(arrays[tensor.name], tensor.name))
    got, wanted = run(small.proto, sample), run(zero, sample)
    return {
        "groups": len(free),
        "error": float(np.abs(got - wanted).max() / np.abs(wanted).max()),
        "size": round(graph.proto.ByteSize() / small.proto.ByteSize(), 2),
    }


def run(proto: onnx.ModelProto, sample: Tensor) -> np.ndarray:
    """Return the first output."""
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    result: np.ndarray = session.run(None, {session.get_inputs()[0].name: sample.numpy()})[0]
    return result


def settle(network: nn.Module) -> nn.Module:
    """Give the network parameters as training does: no two are equal, or the exporter would make one of them."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean = torch.randn(module.num_features) / 10
            module.running_var = torch.rand(module.num_features) + 0.5
    return network.eval()


def cells(row: dict[str, Any]) -> list[str]:
    """Return a network's line of the table."""
    compared = ["", "", "fails", "", ""]
    if "failure" not in row:
        differ = row["more"] + row["fewer"] + row["other"]
        compared = [str(item) for item in (row["layers"], row["channels"], row["same"], differ, row["kept"])]
    times = [f"{row[key]:.2f}" if key in row else "" for key in ("ours_seconds", "theirs_seconds")]
    return [row["network"], *compared, *times, f"1/{row['size']:.2f}", f"{row['error']:.0e}"]


def verdict(rows: list[dict[str, Any]]) -> str:
    """Return what becomes of networks without the groups that differ."""
    outcomes = [outcome for row in rows for outcome in row.get("without_theirs", {}).values()]
    failing = sum(outcome.startswith("fails") for outcome in outcomes)
    return (
        f"\nGroups that differ are of {len(outcomes)} kinds; {failing} times the network fails without "
        "the channel that Torch-Pruning's group describes.\nTimes of Torch-Pruning are those of its graph alone.\n"
    )


def main() -> None:
    """Compare the networks and write down what is found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="networks, all if none is named")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rows = []
    for name, network, sample in networks():
        if arguments.names and name not in arguments.names:
            continue
        rows.append({"network": name, **compare(settle(network), sample)})
        row = rows[-1]
        print(name, {key: value for key, value in row.items() if not isinstance(value, dict)}, flush=True)
        for why, where in row.get("differing", {}).items():
            print(f"    {len(where)} times {why}: {where[0]} {row['without_theirs'].get(why, '')}")
    header = [
        "network",
        "layers",
        "channels compared",
        "same slices",
        "differ",
        "stay here",
        "find: s",
        "Torch-Pruning: s",
    ]
    header += ["half removed: file", "error"]
    text = table(header, list(map(cells, rows))) + verdict(rows)
    print(text)
    if not arguments.names:
        versions = {"torch_pruning": torch_pruning.__version__, "torch": torch.__version__}
        path = save("channel_groups", {"rows": rows, "onnxruntime": onnxruntime.__version__, **versions, **machine()})
        path.with_suffix(".md").write_text(text)
    sys.exit(0 if all(row["error"] < BOUND for row in rows) else 1)


if __name__ == "__main__":
    main()
