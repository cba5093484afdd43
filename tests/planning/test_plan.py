import pytest

from toolchain.amounts import QuantSpec
from toolchain.errors import RecipeError
from toolchain.planning.plan import Plan, PruneGroup, PruneStep, QuantizeStep

PRUNE = PruneStep((PruneGroup(("a", "b"), 10, 360), PruneGroup(("c",), 20, 40)), total=500)
QUANTIZE = QuantizeStep((("a", QuantSpec("uniform", 2)),))


def test_kept_counts_what_no_group_touches_as_dense():
    assert PRUNE.kept == 500 - 350 - 20
    assert PRUNE.names == ("a", "b", "c")


def test_a_plan_without_steps_is_refused():
    with pytest.raises(RecipeError, match="nothing to do"):
        Plan(())


def test_a_plan_finds_its_steps_by_kind():
    assert Plan((QUANTIZE,)).prune is None
    assert Plan((QUANTIZE,)).quantize is QUANTIZE
    assert Plan((PRUNE,)).prune is PRUNE
