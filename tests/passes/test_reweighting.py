import torch

from passes.constraints import Budget, TopK
from passes.reweighting import Reweighting

NAMES = ("a", "b")


def values():
    generator = torch.Generator().manual_seed(0)
    return {"a": torch.randn(20, 10, generator=generator), "b": 100 * torch.randn(8, 5, generator=generator)}


def projected(kept):
    given = values()
    reweighting = Reweighting.of(given)
    project = reweighting.projector(given, reweighting.fit(given, TopK((Budget(NAMES, kept),)), {}))
    return given, {name: project(name, value) for name, value in given.items()}


def test_as_many_weights_stay_as_the_set_asks_for():
    _, result = projected(30)
    assert sum(int(torch.count_nonzero(value)) for value in result.values()) == 30


def test_what_stays_is_shrunk_and_small_weights_more_than_large_ones():
    given, result = projected(120)
    for name in NAMES:
        kept = result[name] != 0
        lost = given[name].abs()[kept] - result[name].abs()[kept]
        assert bool((lost > 0).all())
        assert bool((torch.sign(result[name]) == torch.sign(given[name]))[kept].all())
        order = given[name].abs()[kept].argsort()
        assert bool((lost[order].diff() <= 1e-6 * lost.max()).all())


def test_tensors_of_another_scale_are_treated_alike():
    _, result = projected(60)
    parts = {name: float((result[name] != 0).float().mean()) for name in NAMES}
    assert 0.5 < parts["a"] / parts["b"] < 2


def test_nothing_is_shrunk_where_everything_stays():
    given, result = projected(240)
    assert all(torch.equal(given[name], result[name]) for name in NAMES)
