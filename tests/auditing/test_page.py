"""The page: self-contained, and inert whatever the dataset's text is."""

from __future__ import annotations

import shutil
import subprocess
from html.parser import HTMLParser

import pytest
from auditing.rows import clean, scored, write

from accord.auditing.run import audit
from accord.pages.audit import render, write_page
from accord.pages.page import check_page
from accord.types import UsageError

HOSTILE = [
    "<script>document.title = 'owned'</script>",
    "<img src=x onerror=\"document.title='owned'\">",
    "</pre></section></body><h1>owned</h1>",
    "\x1b[31m\x07 bell \x9b31m \u202e\u2066reversed",
    "{{ 7 * 7 }} {% for x in y %}",
    "<svg onload=\"document.title='owned'\"></svg>",
    "x" * 100_000,
    "<style>body{display:none}</style>",
    "<meta http-equiv=refresh content='0;url=https://example.com'>",
]
TAGS = {
    "html",
    "head",
    "meta",
    "title",
    "style",
    "body",
    "p",
    "h1",
    "h2",
    "h3",
    "br",
    "span",
    "section",
    "pre",
    "details",
    "summary",
    "figure",
    "figcaption",
    "svg",
    "line",
    "circle",
    "text",
    "polyline",
    "polygon",
    "rect",
    "table",
    "tr",
    "td",
    "code",
    "main",
    "div",
    "small",
    "b",
    "g",
    "i",
}


class Seen(HTMLParser):
    """The tags and attributes of a page, and that every tag is closed in its order."""

    VOID = ("meta", "br", "line", "circle", "polyline", "polygon", "rect")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags, self.attributes, self.open, self.text = set(), set(), [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_endtag(self, tag):
        if tag not in self.VOID:  # a browser writes <line></line>
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def hostile_rows():
    """Faults that put hostile texts into prompts, answers, columns and the ledger's excerpts."""
    rows = scored(200)
    for i, text in enumerate(HOSTILE):
        rows[i] = rows[i] | {
            "prompt": text + f" {i}",
            "chosen": text + rows[i]["chosen"],
            "score_chosen": 1,
            "score_rejected": 9,
        }
        rows[20 + i] = rows[20 + i] | {"chosen": text, "rejected": text}
    models = [
        row
        | {
            "chosen_model": HOSTILE[0] if i % 8 else "b",
            "rejected_model": "b" if i % 8 else HOSTILE[0],
        }
        for i, row in enumerate(rows)
    ]
    return [*models, HOSTILE[0], '{"prompt": "' + HOSTILE[1].replace('"', "'")]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile")
    found = audit(write(folder / "<b>data.jsonl", hostile_rows()))
    write_page(found, folder / "page.html")
    return folder / "page.html"


def test_hostile_text_adds_no_tag_and_no_handler(page):
    text = page.read_text(encoding="utf-8")
    seen = Seen(text)
    assert seen.tags <= TAGS and not seen.open
    assert not {
        name
        for name in seen.attributes
        if name.startswith("on") or name in ("src", "href", "xlink:href", "action")
    }
    assert "<script>document" in seen.text, "the text itself is shown, as text"
    assert not [c for c in text if not c.isprintable() and c != "\n"], (
        "controls and marks of direction are written out"
    )
    assert "{{ 7 * 7 }}" in seen.text, "no template is run on the texts"
    assert len(text) < 400_000, "no text is shown whole"


def test_the_page_asks_for_nothing(page):
    text = page.read_text(encoding="utf-8")
    assert (
        "default-src 'none'" in text
        and "http://" not in text.replace("http://www.w3.org", "")
        and "<link" not in text
    )


def test_the_page_has_what_was_found(page, tmp_path):
    found = audit(write(tmp_path / "data.jsonl", scored(200)))
    text = render(found)
    for finding in found.findings:
        assert finding.check in text or finding.title in text
    assert text.count("<svg") >= 5 and "Where a number becomes a finding" in text


def test_names_that_are_no_page(tmp_path):
    for bad in (tmp_path / "page.txt", tmp_path / "none/page.html"):
        with pytest.raises(UsageError):
            check_page(bad)


def test_hostile_text_is_inert_in_a_browser(page, tmp_path):
    """Headless Chromium: the title stays ours, nothing was injected, the page is no wider than the
    window.
    """
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        pytest.skip("chromium is not installed")
    options = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--virtual-time-budget=2000",
        f"--user-data-dir={tmp_path}",
        "--dump-dom",
    ]
    done = subprocess.run(
        [browser, *options, page.as_uri()], capture_output=True, text=True, timeout=300
    )
    if done.returncode:
        pytest.skip(f"chromium does not run here: {done.stderr[-200:]}")
    assert (
        "<title>Audit: unfit · accord</title>" in done.stdout
        or "<title>Audit: fit with care · accord</title>" in done.stdout
    )
    assert Seen(done.stdout).tags <= TAGS | {"tbody"} and "<h1>owned" not in done.stdout


def test_a_file_without_faults_has_a_page(tmp_path):
    assert "Nothing was found that needs mending" in render(
        audit(write(tmp_path / "data.jsonl", clean(3_000)))
    )
