"""One file from the page's modules, and the command that writes it."""

import base64
import hashlib
import json
import re
import webbrowser

import pytest
from conftest import assert_no_faults
from typer.testing import CliRunner

from accord.cli.app import app
from accord.play import build

MODULES = sorted(build.PAGE.rglob("*.js"))


@pytest.fixture(scope="module")
def text():
    return build.page()


def test_it_is_small_and_whole(text):
    assert len(text.encode()) < 200_000 and "{{" not in text.split("<script")[0]
    for module in MODULES:
        assert text.count(f"modules['{module.relative_to(build.PAGE)}'] = ") == 1, module


def test_it_loads_nothing(text):
    """No address but the SVG namespace; the policy names the one style and the one script by their
    hashes.
    """
    assert set(re.findall(r"https?://[^\s'\"`)<]+", text)) == {"http://www.w3.org/2000/svg"}
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', text)[1]
    assert (
        policy.startswith("default-src 'none'")
        and "unsafe" not in policy
        and "connect-src" not in policy
    )
    for tag, name in (("style", "style"), ("script", 'script type="module"')):
        inside = re.search(rf"<{name}>(.*?)</{tag}>", text, re.DOTALL)[1]
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    # what the policy would refuse
    assert not re.search(r"\son\w+=|\sstyle=", text.split("<script")[0])


def test_a_module_is_short_and_never_writes_markup():
    def check(module):
        source = module.read_text(encoding="utf-8")
        assert len(source.splitlines()) < 300 and source.startswith("// ")
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new"
            r" Function|fetch\(|XMLHttpRequest|WebSocket|localStorage",
            source,
        )

    assert_no_faults(MODULES, check)


def test_modules_come_after_what_they_import(tmp_path, monkeypatch):
    monkeypatch.setattr(build, "PAGE", tmp_path)
    (tmp_path / "deep").mkdir()
    (tmp_path / "main.js").write_text(
        "// m\nimport { two } from './deep/two.js';\nimport { one } from './one.js';\nexport const"
        " three = one + two;\n"
    )
    (tmp_path / "deep/two.js").write_text(
        "// t\nimport { one } from '../one.js';\nexport function hidden() {}\nexport const two ="
        " one;\n"
    )
    (tmp_path / "one.js").write_text(
        "// o\nexport async function wait() {}\nexport class One {}\nexport const one = 1;\n"
    )
    text = build.bundle("main.js")
    assert [
        text.index(f"modules['{name}'] =") for name in ("one.js", "deep/two.js", "main.js")
    ] == sorted(text.index(f"modules['{n}'] =") for n in ("one.js", "deep/two.js", "main.js"))
    assert (
        text.count("modules['one.js'] =") == 1
        and "const { one } = modules['one.js'];" in text
        and "return { wait, One, one };" in text
    )
    assert "import " not in text and "export " not in text


@pytest.mark.parametrize(
    "line",
    ["import three from './one.js';", "export default 3;", "import './one.js';", "export { a };"],
)
def test_a_form_that_is_not_known_is_an_error(tmp_path, monkeypatch, line):
    monkeypatch.setattr(build, "PAGE", tmp_path)
    (tmp_path / "one.js").write_text("// o\n")
    (tmp_path / "main.js").write_text(f"// m\n{line}\n")
    with pytest.raises(AssertionError, match="does not use"):
        build.bundle("main.js")


def test_a_circle_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(build, "PAGE", tmp_path)
    (tmp_path / "main.js").write_text("import { a } from './a.js';\nexport const m = 1;\n")
    (tmp_path / "a.js").write_text("import { m } from './main.js';\nexport const a = 1;\n")
    with pytest.raises(AssertionError, match="each other"):
        build.bundle("main.js")


# ---------------------------------------------------------------- accord play


def play(*arguments):
    return CliRunner().invoke(app, ["play", *map(str, arguments)])


@pytest.fixture
def opened(monkeypatch, tmp_path):
    """Addresses that a browser was asked to open; accord's cache is elsewhere."""
    seen = []
    monkeypatch.setattr(webbrowser, "open", lambda url: seen.append(url) or True)
    monkeypatch.setenv("ACCORD_CACHE", str(tmp_path / "cache"))
    return seen


def test_it_opens_a_browser(opened, tmp_path, text):
    done = play()
    file = tmp_path / "cache/play.html"
    assert (done.exit_code, done.stdout) == (0, f"{file}\n") and opened == [file.as_uri()]
    assert file.read_text(encoding="utf-8") == text
    # again: replaced, nothing left over
    assert play().exit_code == 0 and [f.name for f in file.parent.iterdir()] == ["play.html"]


def test_no_open_prints_the_path(opened, tmp_path):
    done = play("--no-open", "--output", tmp_path / "new/x.html")
    assert (done.exit_code, done.stdout, opened) == (0, f"{tmp_path / 'new/x.html'}\n", []) and (
        tmp_path / "new/x.html"
    ).is_file()
    answer = json.loads(play("--no-open", "--json", "--output", tmp_path / "y.html").stdout)
    assert answer == {"ok": True, "result": {"page": str(tmp_path / "y.html"), "opened": False}}


def test_no_browser_is_said(opened, monkeypatch):
    monkeypatch.setattr(webbrowser, "open", lambda url: False)
    assert "open this file in one" in play().stdout


def test_where_it_cannot_write(opened, tmp_path):
    (tmp_path / "file").write_text("")
    folder, under_a_file = play("--output", tmp_path), play("--output", tmp_path / "file/x.html")
    assert folder.exit_code == 2 and "this is a folder" in folder.stderr
    assert under_a_file.exit_code == 6 and "--output FILE" in under_a_file.stderr and opened == []
