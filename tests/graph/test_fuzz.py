"""A few hundred damaged models; benchmarks/import_fuzz.py tries thousands."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="limits of memory and its peak are read as Linux gives them"
)

SCRIPT = Path(__file__).parent / "fuzzing" / "run.py"


@pytest.fixture(scope="module")
def results():
    command = [sys.executable, str(SCRIPT), "--rounds", "1", "--every", "3"]
    finished = subprocess.run(
        command, capture_output=True, text=True, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    return [json.loads(line) for line in finished.stdout.splitlines()]


def test_the_models_work_before_they_are_damaged(results):
    sound = {result["case"]: result["outcome"] for result in results if "/sound/" in result["case"]}
    assert set(sound.values()) == {"works"}, sound


def test_most_damage_is_refused(results):
    counts = Counter(result["outcome"] for result in results)
    assert counts["refused"] > 150


@pytest.mark.parametrize("outcome", ["error", "hang", "crash", "memory"])
def test_a_damaged_model_works_or_is_refused(results, outcome):
    assert [result for result in results if result["outcome"] == outcome] == []


def test_a_refusal_names_a_part_of_the_model(results):
    assert [result for result in results if result["outcome"] == "refused" and not result["named"]] == []
