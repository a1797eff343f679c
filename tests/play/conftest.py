"""node for the page's mathematics, Chromium for the page; each test says why it skips where one is
absent.
"""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from play.browser import Browser, chromium

from accord.play.build import PAGE, write_page


@pytest.fixture(scope="session")
def node():
    """ask(job, …) -> the answers of the page's own modules; a job is (name, *arguments)."""
    program = shutil.which("node")
    if program is None:
        pytest.skip("node is not installed: the page's modules cannot be run outside a browser")

    def ask(*jobs):
        said = json.dumps([[name, arguments] for name, *arguments in jobs])
        done = subprocess.run(
            [program, Path(__file__).with_name("driver.mjs"), PAGE],
            input=said,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return ask


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return write_page(str(tmp_path_factory.mktemp("play") / "play.html"), None)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if chromium() is None:
        pytest.skip("Chromium is not installed: the page cannot be opened")
    with Browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture
def page(browser, built):
    """open(hash, …): the page afresh. Afterwards: it complained of nothing, and asked for nothing
    but itself.
    """
    browser.complaints.clear()
    browser.requests.clear()

    def show(hash="", **kwargs):
        browser.open(built.as_uri() + hash, **kwargs)
        return browser

    yield show
    assert browser.complaints == []
    assert {url.split("#")[0].split(":")[0] for url in browser.requests} <= {
        "file",
        "about",
        "blob",
        "data",
    }
    assert {url.split("#")[0] for url in browser.requests if url.startswith("file")} == {
        built.as_uri()
    }
