"""Links of the documents: in the repository each leads to a file, and to a heading where it names
one; the site makes the same anchors of the headings (docs/hooks.py), and mkdocs checks its own.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from conftest import assert_no_faults
from making import links

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    str(file.relative_to(ROOT))
    for file in (
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "examples").rglob("*.md"),
        *(ROOT / "tests").glob("*.md"),
    )
)
HEADINGS = {
    name: links.anchors((ROOT / name).read_text(encoding="utf-8"))
    for name in DOCUMENTS
    if name.endswith(".md")
}


def faults(document: str, target: str) -> list[str]:
    """Say where a link leads nowhere."""
    file, anchor = links.resolve(document, target)
    if file.startswith(".."):
        return [f"{target} leads out of the repository"]
    if not (ROOT / file).exists():
        return [f"{target}: {file} is not there"]
    if anchor and file in HEADINGS and anchor not in HEADINGS[file]:
        return [f"{target}: {file} has no heading of that anchor"]
    return []


def test_every_link_leads_somewhere():
    def check(document: str) -> list[str]:
        text = (ROOT / document).read_text(encoding="utf-8")
        local = [target for target in links.links(text) if links.is_local(target)]
        return [fault for target in local for fault in faults(document, target)]

    assert_no_faults(DOCUMENTS, check, str)


def test_links_are_read_at_all():
    """The test above would pass on texts in which it finds none."""
    text = (ROOT / "docs/index.md").read_text(encoding="utf-8")
    assert {"start.md", "../BENCHMARKS.md", "moving.md"} <= set(links.links(text))
    assert "formats" in HEADINGS["docs/data.md"] and "limits" in HEADINGS["docs/audit.md"]


def test_pages_use_no_syntax_that_the_site_alone_knows():
    """Admonitions, tabs and attributes stand as raw text on the repository's page."""

    def check(document: str) -> list[str]:
        text = links.without_code((ROOT / document).read_text(encoding="utf-8"))
        return re.findall(r"^(?:!!!|\?\?\?|===).*$|\{[:.#].*?\}|^\[TOC\]", text, re.MULTILINE)

    assert_no_faults(DOCUMENTS, check, str)


@pytest.mark.parametrize(
    "target, fault",
    [
        ("data.md#formats", None),
        ("#verdict", "no heading"),
        ("#the-verdict", None),
        ("dato.md", "not there"),
        ("data.md#format", "no heading"),
        ("../src/accord", None),
        ("../../elsewhere.md", "leads out"),
    ],
)
def test_a_link_that_leads_nowhere_is_found(target, fault):
    found = faults("docs/audit.md", target)
    assert not found if fault is None else fault in found[0]


@pytest.mark.parametrize(
    "heading, anchor",
    [
        ("What `--fix` removes and mends", "what---fix-removes-and-mends"),
        ("β", "β"),
        ("accord.train", "accordtrain"),
        ("dpo\\_tiny.yaml", "dpo_tinyyaml"),
        ("How often it is right?", "how-often-it-is-right"),
        ("[A link](x.md) and *stress*", "a-link-and-stress"),
        ("101: Train, from Python", "101-train-from-python"),
    ],
)
def test_anchors_are_those_of_both_readers(heading, anchor):
    """GitHub's rule, by its documentation; the site's by the function that makes them there."""
    slugs = pytest.importorskip("pymdownx.slugs", reason="pip install -e '.[docs]'")
    assert links.slug(heading) == anchor
    if "[" not in heading and "\\" not in heading:  # those are gone when the site asks
        assert slugs.slugify(case="lower")(heading.replace("*", ""), "-") == anchor


def test_headings_in_code_are_none():
    text = "# One\n\n```bash\n# a comment\n```\n\n## Two\n\n## Two\n"
    assert links.anchors(text) == ["one", "two"]


def test_links_of_the_site():
    text = "[a](../PAPERS.md#dpo) [b](../src/x.py) [c](https://arxiv.org/abs/1) [d](#five) `[e](f)`"
    there = "[a](papers.md#dpo) b [c](https://arxiv.org/abs/1) [d](#five) `[e](f)`"
    assert links.for_site("docs/methods.md", text) == there
    text = "[a](../methods.md) [b](0001-house.md) ![c](../images/x.png) [d](../../README.md)"
    there = "[a](../methods.md) [b](0001-house.md) ![c](../images/x.png) d"
    assert links.for_site("docs/decisions/0002-names.md", text) == there
    text = "[a](docs/decisions/0001-house.md) [b](BENCHMARKS.md) [c](benchmarks/results/x.html)"
    there = "[a](decisions/0001-house.md) [b](benchmarks.md) c"
    assert links.for_site("PAPERS.md", text) == there
