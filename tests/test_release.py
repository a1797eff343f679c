"""What a release is made of: one version, a changelog by release, the licence that is claimed."""

from __future__ import annotations

import hashlib
import re
import tomllib
from pathlib import Path

from setuptools.config.pyprojecttoml import read_configuration

import accord

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CHANGELOG = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
RELEASE = re.compile(r"^## \[(.+?)\](?: - (\d{4}-\d\d-\d\d))?$", re.MULTILINE)
KINDS = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_the_version_stands_in_one_place():
    """What a build reads is accord.__version__; pyproject has no number of its own."""
    assert "version" not in PROJECT and PROJECT["dynamic"] == ["version"]
    built = read_configuration(ROOT / "pyproject.toml", expand=True)["project"]["version"]
    assert built == accord.__version__
    number = re.compile(rf'version_*\W{{0,4}}["\']{re.escape(accord.__version__)}["\']')
    places = [
        file.relative_to(ROOT)
        for file in [ROOT / "pyproject.toml", *(ROOT / "src").rglob("*.py")]
        if number.search(file.read_text(encoding="utf-8"))
    ]
    assert places == [Path("src/accord/__init__.py")]


def test_the_changelog_is_by_release():
    """keepachangelog.com: what is not released first, then versions, newest first, with dates."""
    names = [name for name, _ in RELEASE.findall(CHANGELOG)]
    assert names[0] == "Unreleased" and names[1] == accord.__version__
    assert len(re.findall(r"^## ", CHANGELOG, re.MULTILINE)) == len(names)
    for name, date in RELEASE.findall(CHANGELOG):
        assert (name == "Unreleased") == (not date), f"{name} wants a date, Unreleased none"
    numbers = [tuple(map(int, name.split("."))) for name in names[1:]]
    assert numbers == sorted(numbers, reverse=True)


def test_entries_of_the_changelog_have_a_kind():
    _, *sections = re.split(r"^## .*$", CHANGELOG, flags=re.MULTILINE)
    for section in sections:
        before, *kinds = re.split(r"^### (.*)$", section, flags=re.MULTILINE)
        assert not re.search(r"^- ", before, re.MULTILINE), "an entry stands under a kind"
        assert set(kinds[::2]) <= KINDS and len(set(kinds[::2])) == len(kinds[::2])


def test_the_licence_is_the_one_that_is_claimed():
    """The whole text of Apache-2.0, to the byte."""
    text = (ROOT / "LICENSE").read_bytes()
    assert hashlib.sha256(text).hexdigest() == (
        "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"
    )
    assert PROJECT["license"] == "Apache-2.0" and PROJECT["license-files"] == ["LICENSE"]
    assert "\nApache-2.0. " in (ROOT / "README.md").read_text()
