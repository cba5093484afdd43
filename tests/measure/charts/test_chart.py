from toolchain.measure.charts.chart import LARGEST, largest, largest_note


def test_of_many_tensors_only_the_largest_are_drawn_in_their_order():
    tensors = [{"name": f"t{size}", "size": size} for size in range(1, 101)]

    shown = largest(tensors)

    assert [tensor["size"] for tensor in shown] == list(range(101 - LARGEST, 101))
    assert largest_note(tensors) == "The 24 largest of 100 tensors."
    assert largest_note(shown) == ""
