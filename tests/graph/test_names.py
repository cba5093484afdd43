"""Names of what is added collide with nothing."""

from toolchain.graph.names import take_name


def test_a_name_grows_until_it_is_free_and_is_taken_then():
    taken = {"a", "a_"}
    assert [take_name(name, taken) for name in ("b", "a", "a")] == ["b", "a__", "a___"]
    assert taken == {"a", "a_", "a__", "a___", "b"}
