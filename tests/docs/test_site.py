"""The site builds, warnings being errors, and its pages ask no other machine for anything."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from conftest import assert_no_faults
from making.links import SITE_PAGES
from play.browser import Browser, chromium

pytest.importorskip("material", reason="pip install -e '.[docs]'")

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
# a link that the site shows as the page that it leads to (docs/hooks.py)
PLAYGROUND = re.compile(r"^\[[^\]\n]+\]\(playground\.html#preset=(\w+)\)$", re.MULTILINE)
# attributes that a browser follows by itself
FETCHED = {"src", "srcset", "data", "poster", "action", "formaction", "background"}
FETCHING_LINKS = {
    "stylesheet",
    "preconnect",
    "preload",
    "prefetch",
    "dns-prefetch",
    "icon",
    "manifest",
    "modulepreload",
}


def name_of(path: Path) -> str:
    return path.name


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    here = os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        command,
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": here, "NO_MKDOCS_2_WARNING": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


class Requests(HTMLParser):
    """What a browser would fetch for a page."""

    def __init__(self):
        super().__init__()
        self.found: list[str] = []
        self.policies: list[str] = []

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.found += [value or "" for name, value in attributes if name in FETCHED]
        if tag == "link" and FETCHING_LINKS & set((given.get("rel") or "").split()):
            self.found.append(given.get("href") or "")
        if tag == "meta" and (given.get("http-equiv") or "").lower() == "content-security-policy":
            self.policies.append(given["content"])


def test_nothing_is_fetched_from_elsewhere(site):
    pages = sorted(site.rglob("*.html"))
    # and the documents that are pages there, the playground, the page for what is not there
    assert len(pages) == len(PAGES) + len(SITE_PAGES) + 2
    for page in pages:
        requests = Requests()
        requests.feed(page.read_text(encoding="utf-8"))
        assert requests.found and not [
            url for url in requests.found if re.match(r"(\w+:)?//", url)
        ], page.name
        assert (
            len(requests.policies) == 1
            and "http" not in requests.policies[0]
            and re.match(r"default-src '(self|none)'", requests.policies[0])
        )
    for style in site.rglob("*.css"):
        assert not re.search(
            r"(@import|url\()\s*[\"']?(https?:)?//", style.read_text(encoding="utf-8")
        ), style.name


def test_the_site_holds_pages_and_nothing_of_their_making(site):
    assert not list(site.rglob("*.py")) and not (site / "making").exists()
    flags = (site / "metrics.html").read_text(encoding="utf-8")
    assert 'id="chosen-reward-negative"' in flags  # where start.md points to


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if chromium() is None:
        pytest.skip("Chromium is not installed: the site cannot be opened")
    with Browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


def show(browser, file: Path) -> None:
    """Open a page of the site from the disk."""
    browser.complaints.clear()
    browser.requests.clear()
    browser.call("Page.navigate", url=file.as_uri())
    browser.until(f"document.readyState === 'complete' && location.href === '{file.as_uri()}'")


def test_search_works_from_a_disk(site, browser):
    """The index is a script, and what would be a worker runs in a frame."""
    show(browser, site / "start.html")
    browser.run(
        """(() => { const input = document.querySelector('.md-search__input');
        input.focus(); input.value = 'gamma_beta_ratio';
        for (const kind of ['input', 'keyup']) input.dispatchEvent(new Event(kind)); })()"""
    )
    browser.until("document.querySelectorAll('.md-search-result__link').length > 0")
    found = browser.run(
        "[...document.querySelectorAll('.md-search-result__link')].map((link) => link.href)"
    )
    assert any("/beta.html" in url or "/methods.html" in url for url in found)
    assert not browser.complaints
    assert {url.split(":")[0] for url in browser.requests} <= {"file", "about", "blob", "data"}


def test_the_playground_stands_where_pages_link_to_it(site, browser):
    """At the preset of the link, which stays beside it for the repository's page."""
    shown = {}
    for page in PAGES:
        presets = PLAYGROUND.findall(page.read_text(encoding="utf-8"))
        built = (site / page.relative_to(ROOT / "docs").with_suffix(".html")).read_text("utf-8")
        assert built.count('<iframe class="playground"') == len(presets), page.name
        shown |= {page.stem: presets} if presets else {}
    assert {"beta", "rlhf", "failures"} <= set(shown)
    browser.complaints.clear()
    browser.open((site / "playground.html").as_uri() + "#preset=hacking")
    chosen = "document.querySelector('#presets [aria-pressed=true]').dataset.preset"
    assert browser.run(chosen) == "hacking"
    assert not browser.complaints


def test_no_page_is_wider_than_a_narrow_window(site, browser):
    """Wide tables and code scroll by themselves."""
    browser.call(
        "Emulation.setDeviceMetricsOverride",
        width=480,
        height=800,
        deviceScaleFactor=1,
        mobile=False,
    )

    def check(page: Path) -> list[str]:
        show(browser, page)
        wide = browser.run("document.documentElement.scrollWidth - innerWidth")
        return [f"{wide} pixels too wide"] * (wide > 0)

    assert_no_faults(sorted(site.glob("*.html")), check, name_of)


def test_presets_of_links_are_presets():
    presets = (ROOT / "src/accord/play/page/presets.js").read_text(encoding="utf-8")
    known = set(re.findall(r"^  (\w+): \{$", presets, re.MULTILINE))
    linked = {
        preset
        for page in PAGES
        for preset in re.findall(r"playground\.html#preset=(\w+)", page.read_text("utf-8"))
    }
    assert linked and linked <= known


def test_no_path_of_this_machine(site):
    for page in site.rglob("*.html"):
        assert str(ROOT) not in page.read_text(encoding="utf-8") and str(
            Path.home()
        ) + "/" not in page.read_text(encoding="utf-8")
