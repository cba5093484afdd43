import torch

from passes.constraints.segments import gather


def test_blocks_of_a_channel_follow_each_other_and_the_last_may_be_shorter():
    weight = torch.arange(10.0).reshape(2, 5)
    found = gather(weight, None, 0, 2)
    assert found.shape == (2, 3)
    assert found.lengths.tolist() == [2, 2, 1, 2, 2, 1]
    assert torch.equal(found.values, weight.flatten())
    assert found.sums(found.values).tolist() == [1.0, 5.0, 4.0, 11.0, 15.0, 9.0]


def test_only_what_is_kept_is_gathered_along_any_dimension():
    weight, mask = torch.arange(6.0).reshape(2, 3), torch.tensor([[True, False, True], [False, False, True]])
    found = gather(weight, mask, 1, 0)
    assert found.values.tolist() == [0.0, 2.0, 5.0]
    assert found.lengths.tolist() == [1, 0, 2]
    assert found.spread(torch.tensor([7.0, 8.0, 9.0])).tolist() == [7.0, 9.0, 9.0]


def test_parts_are_the_segments_in_order_and_none_is_torn():
    found = gather(torch.arange(24.0).reshape(6, 4), None, 0, 0)
    parts = list(found.parts(9))
    assert [len(part.values) for part in parts] == [8, 8, 8]
    assert torch.equal(torch.cat([part.values for part in parts]), found.values)
    assert [len(part.lengths) for part in found.parts(3)] == [1] * 6


def test_a_sample_of_large_segments_keeps_their_proportions():
    found = gather(torch.randn(2, 400_000), None, 0, 0).thinned()
    assert 32_768 <= len(found.values) < 40_000
    assert abs(int(found.lengths[0]) - int(found.lengths[1])) <= 1
