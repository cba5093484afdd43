import pytest
import torch

from toolchain.grouping import find_groups


def planted(seed, outputs=24, inputs=20, count=4, kept=6):
    generator = torch.Generator().manual_seed(seed)
    supports = torch.zeros(count, inputs, dtype=torch.bool)
    for row in supports:
        row[torch.randperm(inputs, generator=generator)[:kept]] = True
    group = (torch.arange(outputs) // (outputs // count))[torch.randperm(outputs, generator=generator)]
    return supports[group], group


def same(found, expected):
    pairs = {(int(a), int(b)) for a, b in zip(found, expected, strict=True)}
    return len(pairs) == len(set(found.tolist())) == len(set(expected.tolist()))


@pytest.mark.parametrize("seed", range(5))
def test_outputs_that_read_the_same_channels_are_one_group(seed):
    support, group = planted(seed)
    assert same(find_groups(support, 4), group)


def test_an_output_that_reads_fewer_channels_stays_in_its_group():
    support, group = planted(0)
    support[3, support[3].nonzero()[0]] = False
    support[5] = False
    found = find_groups(support, 4)
    assert same(found[torch.arange(24) != 5], group[torch.arange(24) != 5])
    assert torch.bincount(found).tolist() == [6] * 4


def test_an_output_that_reads_more_than_its_group_does_not_draw_in_those_of_another():
    support = torch.ones(8, 5, dtype=torch.bool)
    support[0:4, 0] = False
    support[4:7, 1] = False  # of the last group, one output reads all
    assert same(find_groups(support, 2), torch.arange(8) // 4)


def test_groups_that_read_the_same_channels_are_divided_equally():
    support = torch.zeros(8, 5, dtype=torch.bool)
    support[:, :2] = True
    assert torch.bincount(find_groups(support, 4)).tolist() == [2] * 4


def test_groups_are_numbered_as_outputs_meet_them():
    for seed in range(5):
        found = find_groups(planted(seed)[0], 4).tolist()
        assert list(dict.fromkeys(found)) == [0, 1, 2, 3]


def test_scattered_zeros_lie_in_no_groups():
    assert find_groups(torch.rand(24, 20, generator=torch.Generator().manual_seed(0)) < 0.5, 4) is None


def test_without_a_channel_that_is_left_out_there_are_no_groups():
    assert find_groups(torch.ones(8, 4, dtype=torch.bool), 2) is None


def test_groups_of_unequal_size_are_none():
    support = torch.zeros(6, 4, dtype=torch.bool)
    support[:4, :2] = True
    support[4:, 2:] = True
    assert find_groups(support, 2) is None
