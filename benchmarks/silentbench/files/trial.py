"""One case: draw, plant, audit, judge."""

from __future__ import annotations

import json
import random
import tempfile
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from accord.auditing.findings import AuditFinding
from accord.auditing.run import audit
from accord.errors import DataError
from benchmarks.silentbench.files import (
    kinds_held,
    kinds_numbers,
    kinds_rows,
    kinds_shortcuts,
    kinds_wrecks,
)
from benchmarks.silentbench.files.bases import BASES, BY_NAME, LABELLED, PAIRS, drawn
from benchmarks.silentbench.files.material import Inert, Kind, Material, Planted, Row
from benchmarks.silentbench.files.rule import RULES, judge

KINDS: tuple[Kind, ...] = (
    *kinds_rows.KINDS,
    *kinds_shortcuts.KINDS,
    *kinds_wrecks.KINDS,
    *kinds_numbers.KINDS,
    *kinds_held.KINDS,
)
BY_KIND = {kind.name: kind for kind in KINDS}
SHORT = 160  # characters of a sentence that are kept in the results


@dataclass(frozen=True)
class Draw:
    """One case before it is done."""

    kind: str
    base: str
    seed: int
    share: float


def draws(seeds: Sequence[int], names: str = "") -> list[Draw]:
    """List the cases of some seeds: each kind in each of the four sets of pairs, and in one of the
    two labelled sets in turn. The shares go round, so that each meets each set.
    """
    found = []
    for seed in seeds:
        for k, kind in enumerate(KINDS):
            if names not in kind.name:
                continue
            labelled = LABELLED if not kind.pairs else LABELLED[seed % 2 : seed % 2 + 1]
            bases = [*(PAIRS if kind.pairs else ()), *(labelled if kind.labelled else ())]
            for base in bases:
                share = kind.shares[(seed + k + BASES.index(base)) % len(kind.shares)]
                found.append(Draw(kind.name, base.name, seed, share))
    return found


def planted(data: Path, draw: Draw) -> tuple[Material, Material, Planted]:
    """Make the rows of a case: without the fault, and with it.

    Raises:
      Inert: the drawn fault cannot be planted in these rows.
    """
    kind, base = BY_KIND[draw.kind], BY_NAME[draw.base]
    place = f"{draw.kind}-{draw.base}-{draw.seed}"
    sound = drawn(data, base, draw.seed).copied(random.Random(f"prepare-{place}"), draw.share)
    if kind.prepare:
        kind.prepare(sound)
    spoiled = sound.copied(random.Random(f"plant-{place}"), draw.share)
    return sound, spoiled, kind.plant(spoiled)


def findings(material: Material, held: bool) -> list[AuditFinding]:
    """Audit rows as a file, in this process."""
    with tempfile.TemporaryDirectory() as folder:
        file = write(Path(folder) / "train.jsonl", material.train)
        other = write(Path(folder) / "test.jsonl", material.held_rows) if held else None
        return audit_file(file, other)


def audit_file(file: Path, held_out: Path | None = None) -> list[AuditFinding]:
    """Audit a file; an error of reading is a finding "read" that refuses it."""
    try:
        return audit(file, held_out=held_out).findings
    except DataError as error:
        return [AuditFinding("read", "refused", str(error))]


def write(file: Path, rows: Sequence[Row]) -> Path:
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    file.write_text("".join(lines), encoding="utf-8")
    return file


@cache
def _untouched(data: Path, base: str, seed: int, held: bool) -> list[AuditFinding]:
    return findings(drawn(data, BY_NAME[base], seed), held)


def do(data: Path, draw: Draw) -> dict:
    """Do one case; the record for the results."""
    began, kind = time.monotonic(), BY_KIND[draw.kind]
    record: dict = {**vars(draw), "item": kind.item}
    try:
        sound, spoiled, fault = planted(data, draw)
        if kind.prepare:
            before = findings(sound, kind.held)
        else:
            before = _untouched(data, draw.base, draw.seed, kind.held)
        verdict = judge(RULES[kind.name], fault, before, findings(spoiled, kind.held))
    except Inert as error:
        return record | {"verdict": "inert", "says": str(error)}
    except Exception:  # a defect of the bench or of the audit: shown, never counted as named
        return record | {"verdict": "failed", "says": traceback.format_exc()[-900:]}
    touched = len(fault.touched) + len(fault.added) + len(fault.touched_held)
    return record | {
        "rows": len(spoiled.train),
        "touched": touched,
        "drawn": fault.drawn[:SHORT],
        "verdict": verdict.word,
        "check": verdict.check,
        "loud": verdict.loud,
        "says": "" if verdict.word == "named" else verdict.says[:SHORT],
        "beside": list(verdict.beside),
        "seconds": round(time.monotonic() - began, 2),
    }


def do_all(data: Path, draws: Sequence[Draw]) -> list[dict]:
    """Do some cases, one after the other."""
    return [do(data, draw) for draw in draws]
