"""What the tests of rounds and phases share: recipes of the two-layer model, and a process that
dies where it is told.
"""

from __future__ import annotations

import json
import shutil
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import write_rows

from accord.runs.display import Display

TIMES = {
    "seconds",
    "sessions",
    "killed",
    "update_seconds",
    "resident_peak",
    "resident_before",
    "gpu_peak",
    "command",
}


class Died(BaseException):
    """A process that is gone: nothing that catches errors catches it."""


class Heard(Display):
    """Keeps the lines."""

    def __init__(self):
        super().__init__()
        self.lines = []

    def line(self, text):
        self.lines.append(text)


def prompts(path: Path, count: int, word: str) -> str:
    return write_rows(
        path,
        [
            {"prompt": f"How many birds are in {word} {i}?", "answer": i, "note": "kept"}
            for i in range(count)
        ],
    )


def steady(node):
    """A record without times and memory."""
    if isinstance(node, dict):
        return {name: steady(value) for name, value in node.items() if name not in TIMES}
    return [steady(value) for value in node] if isinstance(node, list) else node


def contents(folder: Path) -> dict[str, bytes]:
    """Of every file that must be the same however often its command died, by its path. The folder's
    own name is not in any.
    """
    wanted = (
        ".jsonl",
        "adapter_model.safetensors",
        "model.safetensors",
        "tensors.safetensors",
        "plan.json",
    )
    left_out = ("timings.jsonl", "log.jsonl")
    files = [
        f
        for f in folder.rglob("*")
        if f.is_file() and f.name.endswith(wanted) and f.name not in left_out
    ]
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


@contextmanager
def again(folder: Path):
    """Inside, the place of a finished folder is free for another life, which is in its own place
    aside; then it is back.

    Rows name the files that they come from, so lives are compared at one place.
    """
    aside = folder.with_name("aside")
    folder.rename(aside)
    try:
        yield aside
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        aside.rename(folder)


def die(monkeypatch, place: str, module, name: str, call: int, work):
    """Do some work that ends in a call of a function of a module, its `call`-th."""
    right, calls = getattr(module, name), []

    def dying(*arguments, **options):
        calls.append(name)
        if len(calls) == call:
            raise Died(place)
        return right(*arguments, **options)

    with monkeypatch.context() as patch, pytest.raises(Died, match=place):
        patch.setattr(module, name, dying)
        work()


def log(folder: Path) -> list[tuple[str, str]]:
    """(stage, what) in order."""
    return [
        (entry["stage"], entry["what"])
        for entry in map(json.loads, (folder / "log.jsonl").read_text().splitlines())
    ]
