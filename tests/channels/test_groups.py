import numpy as np
import pytest
from channel_cases import BOTH, MAKERS, model_of, random_half, run, zeroed
from channel_cases import feed_of as random_feed
from real_models import FILES, distance, feed_of

from toolchain.channels import channel_groups, find_channels, remove_channels, trace
from toolchain.graph import load_graph
from toolchain.module import OnnxModule

# Of the largest result. Sums over fewer channels are rounded otherwise, and random channels are removed from trained
# models, some of which then give the exponential of large numbers; a wrong channel is off by a tenth and more.
BOUND = 1e-3

# Models of one weight for everything, and of operators on integers: nothing can be removed.
NOTHING = {"densenet121_light", "dtln_1", "shufflenet_light", "yolov8n_int8"}


def removable(groups):
    return [(group.name, group.count) for group in groups if not group.reason]


@pytest.mark.skipif(not FILES, reason="../shared/models is not there")
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_random_half_of_all_channels_can_be_removed(path):
    graph = load_graph(path)
    channels = find_channels(trace(OnnxModule(graph).eval(), feed_of(path, graph)))
    assert bool(removable(channels.groups)) == (path.stem not in NOTHING)
    feed = feed_of(path, graph, seed=1)
    for leaking, roles in ((True, BOTH), (False, MAKERS)):
        removed = random_half(channels, leaking=leaking)
        small = remove_channels(graph, channels, removed)
        wanted = run(zeroed(graph, channels, removed, roles), feed)
        assert max(map(distance, run(small, feed), wanted)) < BOUND


@pytest.mark.parametrize(
    ("name", "groups", "channels"),
    [("lenet5_mnist", 3, 570), ("resnet20_cifar10", 12, 400), ("resnet32_cifar10", 18, 624)],
)
def test_known_networks_have_as_many_channels_as_they_should(name, groups, channels):
    path = next((path for path in FILES if path.stem == name), None)
    if path is None:
        pytest.skip("../shared/models is not there")
    graph = load_graph(path)
    found = removable(channel_groups(trace(OnnxModule(graph).eval(), feed_of(path, graph))))
    assert (len(found), sum(count for _, count in found)) == (groups, channels)


def test_every_position_of_a_constant_is_in_one_channel_at_most():
    body = "h = Conv(x, w, b) p = Pad(h, a) g = Conv(x, u) s = Add(p, g) c = Concat<axis=1>(s, h) y = Conv(c, v)"
    graph = model_of(
        "float[N,4,5,5] x",
        body,
        w=(6, 4, 1, 1),
        b=(6,),
        u=(9, 4, 1, 1),
        v=(3, 15, 1, 1),
        a=np.array([0, 1, 0, 0, 0, 2, 0, 0]),
    )
    groups = channel_groups(trace(OnnxModule(graph).eval(), random_feed(graph)))
    for name, axis in (("w", 0), ("b", 0), ("u", 0), ("v", 1)):
        taken = [
            part.positions.ravel()
            for group in groups
            for part in group.slices
            if (part.tensor, part.axis) == (name, axis)
        ]
        assert sorted(np.concatenate(taken)) == list(range(graph.initializers.shape(name)[axis]))


def test_groups_that_share_a_tensor_are_numbered():
    graph = model_of(
        "float[N,4,5,5] x",
        "h = Conv(x, w) a, b = Split<axis=1,num_outputs=2>(h) c = Conv(a, u) d = Conv(b, v) y = Add(c, d)",
        w=(6, 4, 1, 1),
        u=(3, 3, 1, 1),
        v=(3, 3, 1, 1),
    )
    groups = channel_groups(trace(OnnxModule(graph).eval(), random_feed(graph)))
    assert removable(groups) == [("w", 3), ("w:2", 3)]
