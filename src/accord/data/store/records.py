"""The accounts of a file's rows and tokens as JSON, and back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from accord.data.ledger import Ledger, Rejection
from accord.data.naming import Naming
from accord.data.trees import Changed, TokenAccount
from accord.types import FileLine, Origin

COUNTERS = ("answers_cut", "drawn_cut", "ends", "answers")
NUMBERS = ("examples", "trees", "prompts_cut", "cut", "tokens_cut", "tokens", "unknown")


@dataclass(frozen=True)
class RecordedColumns:
    """The account of a file's columns, as it was when the file was read whole; no column of it
    holds content that nothing reads.
    """

    naming: Naming
    columns: dict
    message_keys: dict
    said: list[str]
    content = content_keys = ()

    def as_dict(self) -> dict:
        return self.columns

    def keys_as_dict(self) -> dict:
        return self.message_keys

    def lines(self) -> list[str]:
        return self.said


def ledger_record(ledger: Ledger) -> dict:
    """Return a ledger as JSON."""
    assert ledger.columns is not None, "a file that was read has an account of its columns"
    return {
        "rows": ledger.rows,
        "used": ledger.used,
        "examples": ledger.examples,
        "rejected": [_rejection(each) for each in ledger.rejected],
        "notes": dict(ledger.notes),
        "formats": dict(ledger.formats),
        "hints": ledger.hints,
        "columns": ledger.columns.as_dict(),
        "message_keys": ledger.columns.keys_as_dict(),
        "said": ledger.columns.lines(),
    }


def ledger_of(record: Mapping[str, Any], file: str, naming: Naming) -> Ledger:
    """Return the ledger of a record, for a file of this name."""
    columns = RecordedColumns(naming, record["columns"], record["message_keys"], record["said"])
    return Ledger(
        file,
        record["rows"],
        record["used"],
        record["examples"],
        [_rejected(each, file) for each in record["rejected"]],
        Counter(record["notes"]),
        Counter(record["formats"]),
        columns,
        dict(record["hints"]),
    )


def tokens_record(account: TokenAccount) -> dict:
    """Return an account of tokens as JSON."""
    return {
        **{name: getattr(account, name) for name in NUMBERS},
        **{name: dict(getattr(account, name)) for name in COUNTERS},
        "end_tokens": sorted(account.end_tokens.items()),
        "shapes": sorted(account.shapes),
        "unfit": [_rejection(each) for each in account.unfit],
        "changed": {cause: asdict(found) for cause, found in account.changed.items()},
    }


def tokens_of(record: Mapping[str, Any], file: str) -> TokenAccount:
    """Return the account of a record, for a file of this name."""
    account = TokenAccount(**{name: record[name] for name in NUMBERS})
    for name in COUNTERS:
        getattr(account, name).update(record[name])
    account.end_tokens.update(dict(record["end_tokens"]))
    account.shapes.update(record["shapes"])
    account.unfit += [_rejected(each, file) for each in record["unfit"]]
    account.changed.update({cause: Changed(**found) for cause, found in record["changed"].items()})
    return account


def _rejection(each: Rejection) -> list:
    line = each.origin.line
    part = [line.file, line.before] if isinstance(line, FileLine) else None
    return [int(line), part, each.reason, each.says, each.excerpt]


def _rejected(record: list, file: str) -> Rejection:
    number, part, reason, says, excerpt = record
    line = FileLine(number, *part) if part else number
    return Rejection(Origin(file, line), reason, says, excerpt)
