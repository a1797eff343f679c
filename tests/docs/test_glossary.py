"""The glossary: short entries in order, and each is linked from a page where its word stands."""

from __future__ import annotations

import re
from pathlib import Path

from conftest import assert_no_faults
from making import links

DOCS = Path(__file__).parents[2] / "docs"
ENTRIES = dict(
    re.findall(
        r"^## ([^\n]+)\n\n(.+?)(?=\n\n## |\Z)",
        (DOCS / "glossary.md").read_text("utf-8"),
        re.DOTALL | re.MULTILINE,
    )
)


def sorted_as(term: str) -> str:
    return term.lower().replace("β", "beta")


def test_entries_are_in_order():
    assert len(ENTRIES) >= 35
    assert list(ENTRIES) == sorted(ENTRIES, key=sorted_as)


def test_an_entry_is_two_sentences():
    def check(term: str) -> list[str]:
        text = ENTRIES[term].strip()
        sentences = re.split(r"(?<=[.])\s+(?=[A-Z\[])", text)
        return [] if len(sentences) == 2 and len(text.split()) < 50 else [f"{sentences}"]

    assert_no_faults(list(ENTRIES), check, str)


def test_entries_are_linked_and_words_are_explained():
    linked = {
        target.partition("#")[2]
        for page in DOCS.glob("*.md")
        for target in links.links(page.read_text(encoding="utf-8"))
        if target.startswith("glossary.md#")
    }
    assert linked == {links.slug(term) for term in ENTRIES}


def test_a_page_links_a_word_once():
    def check(page: Path) -> list[str]:
        targets = list(links.links(page.read_text(encoding="utf-8")))
        entries = [target for target in targets if target.startswith("glossary.md#")]
        return [f"{one} twice" for one in {*entries} if entries.count(one) > 1]

    assert_no_faults(sorted(DOCS.glob("*.md")), check, lambda page: page.name)
