"""The wheel and the source distribution hold what an installed accord needs, and nothing else."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_string
from pathlib import Path

import pytest

import accord

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src/accord"
BUILD = "from setuptools import build_meta as b; b.build_sdist('dist'); b.build_wheel('dist')"


@pytest.fixture(scope="module")
def dist(tmp_path_factory):
    """A folder with both, built from a copy of the tree as it lies here, caches and tests too."""
    copy = tmp_path_factory.mktemp("tree")
    for name in ("src", "tests/docs", "benchmarks/flags", "docs/decisions"):
        shutil.copytree(ROOT / name, copy / name)
    for file in (*ROOT.glob("*.*"), ROOT / "LICENSE", ROOT / "Makefile"):
        if file.is_file():
            shutil.copy(file, copy)
    shutil.copy(ROOT / "tests/test_wheel.py", copy / "tests")  # setuptools packs tests/test*.py
    (copy / "src/accord/__pycache__").mkdir(exist_ok=True)
    (copy / "src/accord/__pycache__/x.pyc").write_bytes(b"")
    shutil.rmtree(copy / "build", ignore_errors=True)
    done = subprocess.run([sys.executable, "-c", BUILD], cwd=copy, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2_000:]
    return copy / "dist"


@pytest.fixture(scope="module")
def wheel(dist):
    (file,) = dist.glob("*.whl")
    assert file.name == f"accord-{accord.__version__}-py3-none-any.whl"
    with zipfile.ZipFile(file) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture(scope="module")
def source(dist):
    (file,) = dist.glob("*.tar.gz")
    with tarfile.open(file) as archive:
        return {one.name.partition("/")[2] for one in archive.getmembers() if one.isfile()}


def of_the_package() -> set[str]:
    """List every file of the package as it lies here, without caches."""
    return {
        f"accord/{file.relative_to(PACKAGE).as_posix()}"
        for file in PACKAGE.rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }


def test_the_wheel_holds_the_package_to_the_file(wheel):
    """A page, a recipe or a data file that package-data forgets is missing here."""
    packed = {name for name in wheel if ".dist-info/" not in name}
    assert packed == of_the_package()
    for name in ("py.typed", "recipes/sentiment_dpo.yaml", "demo/train.jsonl", "pages/run.html.j2"):
        assert f"accord/{name}" in packed


def test_the_wheel_carries_the_licence_and_the_command(wheel):
    notes = {name.partition(".dist-info/")[2]: text for name, text in wheel.items()}
    assert notes["licenses/LICENSE"] == (ROOT / "LICENSE").read_bytes()
    assert b"accord = accord.__main__:main" in notes["entry_points.txt"]


def test_the_metadata_is_whole(wheel):
    (text,) = (each for name, each in wheel.items() if name.endswith("/METADATA"))
    notes = message_from_string(text.decode())
    assert notes["Name"] == "accord" and notes["Version"] == accord.__version__
    assert notes["Requires-Python"] == ">=3.11" and notes["License-Expression"] == "Apache-2.0"
    assert notes["Summary"] and notes["Keywords"] and notes["Author"]
    assert len(notes.get_all("Classifier")) > 5
    assert notes["Description-Content-Type"] == "text/markdown"
    assert notes.get_payload().startswith("# accord")
    assert notes.get_all("Project-URL") is None  # it has no address that is known to be true


def test_the_source_distribution_builds_the_wheel_and_holds_nothing_else(source):
    assert {f"src/{name}" for name in of_the_package()} <= source
    assert {"pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "constraints.txt"} <= source
    strange = [
        name
        for name in source
        if name.startswith(("tests/", "benchmarks/", "docs/", "dist/"))
        or name.endswith(".pyc")
        or "/__pycache__/" in name
    ]
    assert not strange


def test_the_module_is_the_command():
    """`python -m accord` serves where no script is on the path."""
    done = subprocess.run(
        [sys.executable, "-m", "accord", "version"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (0, accord.__version__)


def test_the_page_names_the_wheel_of_this_version():
    page = (ROOT / "docs/ship.md").read_text(encoding="utf-8")
    named = set(re.findall(r"dist/(accord-[\w.-]+\.whl)", page))
    assert named == {f"accord-{accord.__version__}-py3-none-any.whl"}
