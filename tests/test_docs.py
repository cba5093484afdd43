"""The README and the pages in ``docs``: what they link to is there."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from toolchain.planning.plan import CalibrationOptions, ExportOptions, PruneSchedule, QuantSchedule
from toolchain.recipe import RULE_KEYS, TOP_KEYS, TRAIN_KEYS

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)


def prose(page):
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def anchors(page):
    """Return the anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page):
    links = re.findall(r"\]\(([^)\s]+)\)", prose(page))
    for link in links:
        if "://" in link:
            continue
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_every_page_is_linked_from_the_readme():
    readme = prose(ROOT / "README.md")
    assert all(f"docs/{page.name}" in readme for page in PAGES[1:])


@pytest.mark.parametrize(
    "keys",
    [
        TOP_KEYS,
        RULE_KEYS,
        TRAIN_KEYS,
        *(
            [option.name for option in fields(options)]
            for options in (PruneSchedule, QuantSchedule, CalibrationOptions, ExportOptions)
        ),
    ],
    ids=lambda keys: keys[0],
)
def test_every_key_of_a_recipe_is_explained(keys):
    page = (ROOT / "docs" / "compressing.md").read_text(encoding="utf-8")
    assert [key for key in keys if not re.search(rf"\b{key} =|`{key}`", page)] == []


def test_the_first_screen_says_what_it_is_and_how_to_try_it():
    first = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()[:40]
    for words in ("compress model.onnx --prune 36x --quant 2bit", "stock ONNX Runtime", "make demo", "## Results"):
        assert any(words in line for line in first), words


def test_the_readme_can_be_read_in_one_sitting():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 400
