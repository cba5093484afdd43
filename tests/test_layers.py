"""Imports point down the list in ``LAYERS`` and nowhere else."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# From the bottom up; units of one layer do not import each other, except where they are written as one entry.
LAYERS = [
    ("toolchain.console", "toolchain.errors", "toolchain.files", "toolchain.units", "toolchain.validation"),
    ("toolchain.checkpoint", "toolchain.formats", "toolchain.progress"),
    ("toolchain.graph",),
    ("toolchain.amounts", "toolchain.augmentation", "toolchain.grouping", "toolchain.outputs", "toolchain.structures"),
    ("toolchain.ops",),
    ("toolchain.execution",),
    ("toolchain.module",),
    ("toolchain.channels", "toolchain.persistence"),
    ("calibration",),
    ("passes",),
    ("toolchain.bench", "toolchain.export"),
    ("toolchain.measure",),
    ("toolchain.gates",),
    ("toolchain.unpacking",),
    ("toolchain.planning", "toolchain.recipe"),
    ("toolchain.running",),
    ("toolchain.hints",),
]
TOP = len(LAYERS)  # every other module of toolchain: pipeline, demo, inspection, the command line


def layer(module):
    for height, names in enumerate(LAYERS):
        if any(module == name or module.startswith(f"{name}.") for name in names):
            return height
    return TOP


def sources():
    return sorted(file for package in ("toolchain", "passes", "calibration") for file in (ROOT / package).rglob("*.py"))


def module_name(file):
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(file):
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            # `from toolchain import errors` names a module, `from toolchain.errors import X` something in it.
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("file", sources(), ids=module_name)
def test_imports_point_down(file):
    own = module_name(file)
    if own in ("toolchain", "toolchain.__main__"):
        return  # the package offers compress() lazily
    for name in imported(file):
        if name.split(".")[0] in ("toolchain", "passes", "calibration"):
            assert layer(name) <= layer(own), f"{own} imports {name}, which lies above it"


def test_nothing_in_the_packages_imports_tests_or_benchmarks():
    for file in sources():
        assert not {name.split(".")[0] for name in imported(file)} & {"tests", "benchmarks"}
