"""What a kind of fault is."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.silentbench.lifecycle.case import Case
from benchmarks.silentbench.lifecycle.said import require_pattern

FOLDER = ("train", "dry run", "eval, folder", "generate, folder")
ADAPTER = ("eval, adapter", "generate, adapter", "train, adapter", "export")
PAIRS = ("dpo", "ipo", "simpo", "orpo")


@dataclass(frozen=True)
class Kind:
    """A fault with parameters that are drawn: `spoil` changes the case and says what it drew."""

    name: str
    cause: str  # pattern of the true cause, written before any run
    spoil: Callable[[Case], str]
    places: tuple[str, ...]
    methods: tuple[str, ...] = ("dpo",)
    families: tuple[str, ...] = ("llama",)
    between: bool = False  # after the place's setup, not before it
    handled: Callable[[Case], bool] | None = None  # whether what came out is right all the same

    def __post_init__(self) -> None:
        require_pattern(self.name, self.cause)


class Inert(Exception):
    """A fault that changed nothing: the bench would count it as missed for ever."""


def state(case: Case) -> str:
    """Digest whatever a fault can change: files, rows, settings, words, patched code."""
    digest = hashlib.sha256()
    fields = (case.rows, case.held, case.settings, case.words, case.last_words, case.extra_keys)
    digest.update(json.dumps(fields, sort_keys=True, default=str).encode())
    rewards = (case.reward_rows, case.reward_held, case.second_held, case.own_rows)
    digest.update(repr((case.method, case.family, str(case.target), rewards)).encode())
    digest.update(repr([str(call) for call in case.stack._exit_callbacks]).encode())
    return digest.hexdigest() + folder_digest(case.folder)


def folder_digest(folder: Path) -> str:
    """Digest the names and contents of a folder's files."""
    digest = hashlib.sha256()
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            digest.update(str(file.relative_to(folder)).encode() + file.read_bytes())
    return digest.hexdigest()


def spoil(kind: Kind, case: Case) -> str:
    """Inject a fault.

    Raises:
      Inert: nothing is different afterwards.
    """
    case.copy_model()  # it must exist before it is compared
    before = state(case)
    drawn = kind.spoil(case)
    if state(case) == before:
        raise Inert(f"{kind.name} ({drawn}) changed nothing")
    return drawn
