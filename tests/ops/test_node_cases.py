"""Every official case that the onnx wheel carries for operators, each once."""

from collections import defaultdict
from fnmatch import fnmatchcase

import pytest
from known_gaps import KNOWN_GAPS, NO_CASE
from node_cases import (
    all_operators,
    by_its_body,
    gap_of,
    has_body,
    is_relevant,
    load_cases,
    load_model_cases,
    operators,
    outcome_of,
)

from toolchain.ops import registered

RELEVANT_SHARE = 0.98  # of the relevant cases pass, at least

SEVERAL, UNREGISTERED = "several operators", "operators without a function"


class Groups(defaultdict):
    """Cases by operator; ``used`` are the operators of all that are no known gap, those in subgraphs included."""

    used = frozenset()

    def __repr__(self):
        return "Groups"  # pytest shows it with every failure, and two thousand models take their time


@pytest.fixture(scope="module")
def groups():
    known, found = set(registered()), Groups(list)
    for case in (*load_cases(), *load_model_cases()):
        used = operators(case.model.graph)
        one = next(iter(used)) if len(used) == 1 else SEVERAL
        found[one if used <= known else UNREGISTERED].append(case)
        if gap_of(case) is None:
            found.used |= all_operators(case.model.graph)
    return found


def surprises(cases):
    outcomes = {case.name: outcome_of(case) for case in cases}
    return {name: outcome.surprise for name, outcome in outcomes.items() if outcome.surprise}


@pytest.mark.parametrize("operator", registered(), ids=lambda key: ".".join(filter(None, key)))
def test_operator_passes_all_its_official_cases(operator, groups):
    assert not surprises(groups[operator])
    without = operator[0] == "com.microsoft" or operator[1] in NO_CASE
    assert (operator in groups.used) != without, "an operator needs an official case or an entry in NO_CASE"


@pytest.mark.parametrize("group", [SEVERAL, UNREGISTERED])
def test_cases_that_are_not_about_one_registered_operator_pass(group, groups):
    assert groups[group]
    assert not surprises(groups[group])


def test_function_bodies_pass_the_cases_of_the_operators_that_they_define(groups):
    cases = [case for group in groups.values() for case in group if has_body(case)]
    outcomes = {case.name: by_its_body(case) for case in cases}
    assert len(outcomes) > 400
    assert not {name: outcome.surprise for name, outcome in outcomes.items() if outcome.surprise}


@pytest.mark.parametrize("pattern", KNOWN_GAPS)
def test_a_known_gap_is_about_a_case(pattern, groups):
    assert any(fnmatchcase(case.name, pattern) for cases in groups.values() for case in cases)


def test_few_relevant_cases_are_known_gaps(groups):
    relevant = [case for cases in groups.values() for case in cases if case.kind == "node" and is_relevant(case)]
    gaps = [case for case in relevant if gap_of(case)]
    assert len(gaps) <= (1 - RELEVANT_SHARE) * len(relevant)
