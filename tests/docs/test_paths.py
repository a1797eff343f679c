"""Every path and module that a document names in code is there.

`path/file.py`, `data/`, `accord.x.y` and `name` of a file are looked for where a reader would: in
the repository, in src/accord, in tests. The changelog is exempt: it names what was, too.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from conftest import assert_no_faults

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    file
    for file in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("tests/*.md"))
    if file.name != "CHANGELOG.md"
)
PLACES = [ROOT, *(ROOT / name for name in ("src", "src/accord", "tests", "benchmarks"))]
SUFFIXES = r"(?:py|md|js|mjs|j2|toml|sh)"
BLOCK = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
CODE = re.compile(r"`([^`\n]+)`")
# A file with its ending, and a folder that ends in a slash; `*` may stand for a part of a name.
FILE = re.compile(rf"(?<![\w./-])((?:[\w*-]+/)*[\w*-]+\.{SUFFIXES})\b(?![\w/(])")
FOLDER = re.compile(
    r"^((?:src|tests|docs|benchmarks|recipes|examples)/(?:[\w-]+/)*[\w-]*|[a-z_]+/)$"
)
MODULE = re.compile(r"\baccord(?:\.\w+)+")
# What a document names that is not of this tree.
ELSEWHERE = {
    "README.md": "of a run's folder",
    "my_loss.py": "a reader's own",
    "capitals.py": "a reader's own",
    "train.py": "a reader's own",
    "zero_to_fp32.py": "DeepSpeed's",
}
OF_A_RUN = {"examples.parquet/", "split/", "checkpoints/", "rollouts/", "evaluation/"}
OF_A_RUN |= {"adapter/", "final/"}
OF_A_RUN |= {
    "accord.json",
    "site/",
    "runs/",
    "diag/",
    "truthfulqa/",
    "hh_helpful/",
    "math/",
}  # or of a reader, or of play/


def named_in(text: str) -> list[str]:
    """List the paths and modules that a text names between backticks."""
    found: list[str] = []
    for code in CODE.findall(BLOCK.sub("", text)):
        found += FILE.findall(code) + FOLDER.findall(code) + MODULE.findall(code)
    return list(dict.fromkeys(found))


def is_there(name: str) -> bool:
    if name in ELSEWHERE or name in OF_A_RUN:
        return True
    if name.startswith("accord."):
        return is_importable(name)
    if "/" not in name.rstrip("/"):  # a name alone: anywhere in the tree
        pattern = name.rstrip("/")
        return any(
            next(place.rglob(pattern), None)
            for place in (ROOT / "src", ROOT / "docs", ROOT / "tests", ROOT / "benchmarks")
        ) or any(ROOT.glob(pattern))
    return any(next(place.glob(name), None) for place in PLACES)


def is_importable(name: str) -> bool:
    """Whether a module has this name, or holds something of the last part's name."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        folder = ROOT / "src" / "/".join(parts[:length])
        file = folder.with_suffix(".py")
        if folder.is_dir() and not file.is_file():
            file = folder / "__init__.py"
        if folder.is_dir() or file.is_file():
            text = file.read_text(encoding="utf-8") if file.is_file() else ""
            return length == len(parts) or re.search(rf"\b{parts[length]}\b", text) is not None
    return False


def test_what_a_document_names_is_there():
    def gone(document: Path) -> list[str]:
        names = named_in(document.read_text(encoding="utf-8"))
        return [f"{name} is not there" for name in names if not is_there(name)]

    assert_no_faults(DOCUMENTS, gone, lambda path: str(path.relative_to(ROOT)))


def test_documents_name_what_is_there():
    """The test above would pass on texts that it cannot read."""
    architecture = named_in((ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8"))
    assert len(architecture) > 60 and "engine/batch_source.py" in architecture


@pytest.mark.parametrize(
    "text, gone",
    [
        ("`training/proofs.py` proves", ["training/proofs.py"]),
        ("`verify/preflight.py` proves", []),
        ("a folder `nowhere/` of its own", ["nowhere/"]),
        ("`accord.training.loop.train` and `accord.train`", []),
        ("`accord.training.proofs.prove`", ["accord.training.proofs.prove"]),
        ("`tests/forward/test_nothing.py`", ["tests/forward/test_nothing.py"]),
        ("```\ntraining/proofs.py\n```", []),
    ],
)
def test_what_is_gone_is_found(text, gone):
    assert [name for name in named_in(text) if not is_there(name)] == gone


def test_the_changelog_s_new_names_are_there():
    """Its table of moved modules: the right column is of today."""
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    moved = re.findall(r"^\| `(accord[\w.]*)`[^|]*\| `(accord[\w.]*)`", text, re.MULTILINE)
    assert len(moved) > 20
    for old, new in moved:
        assert is_importable(new), (old, new)
