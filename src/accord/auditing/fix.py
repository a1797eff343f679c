"""`accord audit --fix`: write a cleaned file, and a list of every removed row with its reason.

The rules run in the order of the table. A row is removed by the first rule that applies. Each rule
can be switched on (--drop) or off (--keep) by name. A line whose ranked list gave several pairs is
removed only if all its pairs are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from accord.auditing.checks import integrity
from accord.auditing.checks.labels import tie_width
from accord.auditing.checks.wrecks import wrecked_rows
from accord.auditing.measure import COLUMN
from accord.auditing.mend import NAMES, Change, Mended, check_mends, entries, mend_row, mended_rows
from accord.auditing.scan import Scan
from accord.auditing.wrecks.kinds import MENDS
from accord.config.explain import nearest_words
from accord.data.containers import Source
from accord.data.read import Reading
from accord.data.write import new_file, raw_rows, write_lines, write_row
from accord.errors import plural
from accord.types import DataError, UsageError


@dataclass(frozen=True)
class Options:
    """Options for which rows to remove."""

    drop: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()
    near_tie: float | None = None  # score gap; None takes the audit's own threshold
    min_chosen_score: float | None = None
    max_per_prompt: int | None = None
    balance_length: bool = False
    seed: int = 0
    mend: tuple[str, ...] = ()


@dataclass(frozen=True)
class Rule:
    """A rule: the rows to remove, [N] bool, and the reason in a few words."""

    says: str
    rows: Callable[[Scan, Options], np.ndarray]
    default: bool = True
    kinds: tuple[str, ...] = ("pairs", "labelled", "demonstrations")


def _contradictory(scan: Scan, options: Options) -> np.ndarray:
    return integrity.knots(scan)[0] if scan.paired else integrity.conflicting_labels(scan)


def _near_ties(scan: Scan, options: Options) -> np.ndarray:
    gap = scan.scores[:, 0] - scan.scores[:, 1]
    least = tie_width(scan) if options.near_tie is None else options.near_tie
    return np.abs(np.nan_to_num(gap, nan=np.inf)) < least


def _conflicts(scan: Scan, options: Options) -> np.ndarray:
    return scan.scores[:, 0] < scan.scores[:, 1]


def _foreign(scan: Scan, options: Options) -> np.ndarray:
    other = scan.features[:, :, COLUMN["in the prompt's language"]] == 0
    return other[:, 0] & ~other[:, 1] if scan.paired else other[:, 0]


# reasons of the rules that drop one kind of wreck; the kinds that can be mended are kept by --mend
WRECKS = {
    "sentinel": "a missing value as text",
    "error": "an error message as text",
    "moderation": "a moderation notice",
    "placeholder": "a place never filled in",
    "invisible": "characters that nobody sees",
    "json": "JSON around the text",
    "html": "escapes or tags of a page",
    "mojibake": "a wrong code page",
    "escaped": "escapes written out",
    "watermark": "a pattern of odd characters",
    "homoglyphs": "letters of another script",
    "loop": "one piece again and again",
    "damaged": "damaged on the way",
    "cut": "cut short",
}


def _wrecked(name: str) -> Callable[[Scan, Options], np.ndarray]:
    return lambda scan, options: wrecked_rows(scan, name)


def _any_wreck(scan: Scan, options: Options) -> np.ndarray:
    """Mark the rows with a wreck that no mend takes away."""
    return np.any([wrecked_rows(scan, name) for name in WRECKS if name not in MENDS], axis=0)


RULES = {
    "duplicates": Rule(
        "the same as an earlier row", lambda scan, options: integrity.duplicate_rows(scan)
    ),
    "near-duplicates": Rule(
        "nearly the same as an earlier row",
        lambda scan, options: integrity.near_duplicate_rows(scan),
    ),
    "contradictions": Rule(
        "another row says the opposite", _contradictory, kinds=("pairs", "labelled")
    ),
    "cycles": Rule(
        "on a cycle of preferences",
        lambda scan, options: integrity.knots(scan)[1],
        False,
        ("pairs",),
    ),
    "same-answers": Rule(
        "answers differ in case or blanks alone",
        lambda scan, options: scan.folded[:, 0] == scan.folded[:, -1],
        kinds=("pairs",),
    ),
    "near-ties": Rule("score gap under the threshold", _near_ties, kinds=("pairs",)),
    "score-conflicts": Rule("the score says the opposite", _conflicts, False, ("pairs",)),
    "declared-flips": Rule("marked as flipped", lambda scan, options: scan.declared == 1, False),
    "marks": Rule(
        "marks of another model, or a repeated text",
        lambda scan, options: scan.tables.marks.marked,
        False,
    ),
    "language": Rule("answer in another language than the prompt", _foreign, False),
    "wrecks": Rule("no text any more, and nothing to mend", _any_wreck, False),
    **{name: Rule(says, _wrecked(name), False) for name, says in WRECKS.items()},
}


@dataclass
class Cleaned:
    """The account of what `fix` wrote and left out. rows == written + sum of removed."""

    path: str
    rows: int
    written: int
    removed: Counter = field(default_factory=Counter)  # reason -> rows
    ledger: str = ""
    mended: Mended | None = None

    def as_dict(self) -> dict:
        return {
            "path": self.path,
            "rows": self.rows,
            "written": self.written,
            "removed": dict(self.removed),
            "ledger": self.ledger,
            **({"mended": self.mended.as_dict()} if self.mended is not None else {}),
        }

    def lines(self) -> list[str]:
        """List the account for a person."""
        total = sum(self.removed.values())
        return [
            (
                f"{self.path}: {plural(self.rows, 'row')} = {self.written:,} written + {total:,}"
                " left out,"
                f" listed in {self.ledger}"
            ),
            *(f"  {count:>7,}  {reason}" for reason, count in self.removed.most_common()),
            *(self.mended.lines() if self.mended is not None else ()),
        ]


def check_options(options: Options, scan_kind: str | None = None) -> None:
    """Refuse an option that does not exist or would have no effect.

    Raises:
      UsageError: an unknown rule, a rule both dropped and kept, a number that makes no sense.
    """
    check_mends(options.mend)
    for name in (*options.drop, *options.keep):
        if name not in RULES:
            meant = nearest_words(name, RULES, ".")
            raise UsageError(
                f"no rule of --fix is called {name!r}{meant} Known: {', '.join(RULES)}."
            )
        if name in options.drop and name in options.keep:
            raise UsageError(f"--drop {name} and --keep {name} contradict each other.")
        if scan_kind is not None and scan_kind not in RULES[name].kinds:
            raise UsageError(
                f"the rule {name!r} says nothing of {scan_kind}: it is for"
                f" {' and '.join(RULES[name].kinds)}."
            )
    if options.near_tie is not None and not options.near_tie >= 0:
        raise UsageError(
            f"--near-tie {options.near_tie}: a score gap is 0 or more; 0 keeps near ties."
        )
    if options.max_per_prompt is not None and options.max_per_prompt < 1:
        raise UsageError(f"--max-per-prompt {options.max_per_prompt}: expected 1 or more.")


def fix(scan: Scan, source: Source, path: str | Path, options: Options = Options()) -> Cleaned:
    """Write the rows that pass, and a list of the others beside them.

    Raises:
      UsageError: an option does not fit the file; the output exists.
      DataError: nothing would be left.
    """
    check_options(options, scan.kind)
    reasons = removals(scan, options)
    kept = set(scan.lines[[i for i, reason in enumerate(reasons) if not reason]].tolist())
    if not kept:
        raise DataError(f"{scan.name}: no row would be left: {dict(Counter(reasons))}.")
    ledger = f"{str(path).removesuffix('.gz').removesuffix('.jsonl')}.removed.jsonl"
    gone = {
        int(line): reason
        for line, reason in zip(scan.lines, reasons, strict=True)
        if reason and int(line) not in kept
    }
    cleaned = Cleaned(str(path), scan.ledger.rows, 0, ledger=ledger)
    with new_file(ledger) as file:
        for entry in _entries(scan, gone, kept):
            cleaned.removed[entry["reason"]] += 1
            write_row(file, entry)
        if options.mend:
            cleaned.mended = Mended(ledger.replace(".removed.jsonl", ".mended.jsonl"))
            cleaned.written = _write_mended(path, scan, source, kept, options.mend, cleaned.mended)
        else:
            cleaned.written = write_lines(path, source, kept)
    assert cleaned.rows == cleaned.written + sum(cleaned.removed.values()), (
        "the account does not balance"
    )
    return cleaned


def _write_mended(
    path: str | Path,
    scan: Scan,
    source: Source,
    kept: set[int],
    names: tuple[str, ...],
    account: Mended,
) -> int:
    """Write the rows that stay, mended where that is safe, and the list of changes; count rows."""
    changes = mended_rows(scan, source, kept, names)
    reading = Reading(naming=scan.naming, format=scan.naming.format)
    count = 0
    with new_file(account.path) as listing, new_file(path) as file:
        for line, row in raw_rows(source):
            if line not in kept:
                continue
            count += 1
            found = changes.get(line)
            mended = mend_row(row, found, reading, scan.origin(line)) if found else None
            if found and mended is None:
                account.left += 1
            elif found:
                _count(account, found)
                for entry in entries(scan, line, found):
                    write_row(listing, entry)
            write_row(file, row if mended is None else mended)
    return count


def _count(account: Mended, changes: list[Change]) -> None:
    account.rows += 1
    used = {rule for change in changes for rule in change.rules}
    account.by_rule.update(name for name in NAMES if name in used)


def _entries(scan: Scan, gone: dict[int, str], kept: set[int]):
    """Yield the removed rows: those removed by a rule, the unusable ones, and those of another
    kind.
    """
    for rejection in scan.ledger.rejected:
        yield {**rejection.origin.as_dict(), "reason": rejection.reason, "says": rejection.says}
    for line, reason in sorted(gone.items()):
        yield {**scan.origin(line).as_dict(), "reason": reason, "says": reason}
    for line in scan.other_lines:
        if line not in kept and line not in gone:
            yield {
                **scan.origin(line).as_dict(),
                "reason": "another kind of row",
                "says": f"not {scan.kind}",
            }


def removals(scan: Scan, options: Options) -> list[str]:
    """Return the reason for removing each row, "" if it stays, [N]."""
    reasons = np.full(len(scan), "", dtype=object)
    active = [
        r
        for name, r in RULES.items()
        if scan.kind in r.kinds and name not in options.keep and (r.default or name in options.drop)
    ]
    for rule in active:
        _mark(reasons, rule.rows(scan, options), rule.says)
    if options.min_chosen_score is not None:
        if np.isnan(scan.scores).all():
            raise UsageError(f"--min-chosen-score: {scan.name} has no score of its chosen answers.")
        _mark(
            reasons,
            scan.scores[:, 0] < options.min_chosen_score,
            "chosen answer's score under the minimum",
        )
    if options.max_per_prompt is not None:
        _mark(
            reasons,
            _beyond(scan, reasons == "", options.max_per_prompt),
            "prompt repeated too often",
        )
    if options.balance_length:
        if not scan.paired:
            raise UsageError(f"--balance-length is about two answers; these are {scan.kind}.")
        _mark(reasons, _overweight(scan, reasons == "", options.seed), "length balance")
    return reasons.tolist()


def _mark(reasons: np.ndarray, rows: np.ndarray, says: str) -> None:
    reasons[rows & (reasons == "")] = says


def _beyond(scan: Scan, left: np.ndarray, most: int) -> np.ndarray:
    """Mark the rows of each prompt after its first `most` that are left."""
    order = np.lexsort((np.arange(len(scan)), ~left, scan.questions))
    start = np.r_[True, scan.questions[order][1:] != scan.questions[order][:-1]]
    position = np.arange(len(order)) - np.maximum.accumulate(
        np.where(start, np.arange(len(order)), 0)
    )
    out = np.zeros(len(scan), bool)
    out[order] = position >= most
    return out & left


def _overweight(scan: Scan, left: np.ndarray, seed: int) -> np.ndarray:
    """Mark rows to remove, drawn by the seed, so that within each step of the length ratio both
    directions win equally often.
    """
    length = np.log2(np.maximum(1, scan.features[:, :, COLUMN["characters"]]))
    ratio = length[:, 0] - length[:, 1]
    # quarters of an octave; beyond eight-fold is one step
    steps = np.minimum(np.abs(ratio) * 4, 12).astype(int)
    priority = np.random.Generator(np.random.Philox(key=[seed, 7])).random(len(scan))
    out = np.zeros(len(scan), bool)
    for step in np.unique(steps):
        longer, shorter = (
            np.flatnonzero(left & (steps == step) & side) for side in (ratio > 0, ratio < 0)
        )
        more = longer if len(longer) > len(shorter) else shorter
        surplus = abs(len(longer) - len(shorter))
        out[more[np.argsort(priority[more], kind="stable")[:surplus]]] = True
    return out
