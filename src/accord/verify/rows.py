"""Checks on a run's rows, before anything is trained: the ledger, the tokens, held-out prompts that
are trained on.
"""

from __future__ import annotations

import math
from collections.abc import Collection

import numpy as np

from accord.config.schema import Config
from accord.data.encoding_findings import findings
from accord.data.example_table import Picked
from accord.data.prompts import LEAK, prompt_words
from accord.data.read import GUESSED
from accord.data.roundtrip_checks import roundtrip_findings
from accord.data.rows import Rows, reading_record
from accord.data.templates import Template
from accord.errors import plural
from accord.types import Finding, Tree


def row_findings(
    config: Config, rows: Rows, template: Template, name: str, stops: Collection[int]
) -> list[Finding]:
    """Report on the ledger and on every row of one file.

    Args:
      stops: tokens at which generation stops.
    """
    data, ledger = config.data, rows.dataset.ledger
    share = ledger.rejected_share
    says = (
        f"{name}: {plural(ledger.rows, 'row')} = {ledger.used:,} used +"
        f" {len(ledger.rejected):,} rejected"
    )
    if ledger.rejected:
        says += (
            " ("
            + "; ".join(f"{count:,} {reason}" for reason, count in ledger.reasons.most_common(4))
            + ")"
        )
    refused = share > data.max_rejected
    accept = math.ceil(share * 1000) / 1000
    remedy = f"mend them, or accept the loss: --set data.max_rejected={accept:g}" if refused else ""
    verdict = "refused" if refused else "note" if ledger.rejected else "ok"
    places = [
        place for reason, _ in ledger.reasons.most_common() for place in ledger.places(reason, 1)
    ]
    first = [
        {"at": str(place.origin), "detail": f"{place.reason}: {place.says}"} for place in places
    ]
    evidence = {"share": share, "reasons": dict(ledger.reasons), "first": first}
    columns = dict(ledger.columns.naming.names) if ledger.columns is not None else data.columns
    decoded = rows.checks.remember(
        "roundtrip",
        [sorted(stops), data.max_rejected, columns, rows.dataset.path],
        lambda: roundtrip_findings(rows.encoding, template, stops, data.max_rejected, columns),
    )
    return [
        Finding("data.ledger", verdict, says, evidence, remedy),
        _columns(rows, name),
        *findings(rows.encoding, template, data.max_rejected, data.max_too_long),
        *decoded,
    ]


NOTES = 8  # notes on rows that are shown, the commonest first


def _columns(rows: Rows, name: str) -> Finding:
    """Report the formats, and what became of every column and message key; content that nothing
    reads was refused when the file was read.
    """
    ledger = rows.dataset.ledger
    record = reading_record(ledger)
    unread = [
        key
        for table in (record["columns"], record["message_keys"])
        for key in {**table.get("unread", {}), **table.get("content", {})}
    ]
    guessed = any(note.startswith(GUESSED) for note in ledger.notes)
    says = "; ".join(line.strip() for line in ledger.reading_lines())
    # what was cut, parsed, split or taken by a convention: a person must be able to object
    told = [f"{plural(count, 'row')}: {note}" for note, count in ledger.notes.most_common(NOTES)]
    says = "; ".join([says, *told])
    return Finding(
        "data.columns",
        "note" if unread or guessed or record["columns"].get("ignored") else "ok",
        f"{name}: {says}",
        {"columns": record["columns"], "message_keys": record["message_keys"]},
    )


def _shared(rows: Rows, held_out: Rows) -> list[Tree]:
    """Return the held-out rows whose prompt is trained on, token by token."""
    alike = np.isin(held_out.trees.prompt_hashes, rows.trees.prompt_hashes)
    found = [held_out.trees[at] for at in np.flatnonzero(alike).tolist()]
    if not found:
        return []
    own = np.isin(rows.trees.prompt_hashes, held_out.trees.prompt_hashes)
    trained = {rows.trees[at].prompt for at in np.flatnonzero(own).tolist()}
    return [tree for tree in found if tree.prompt in trained]


def overlap(config: Config, rows: Rows, held_out: Rows) -> Finding:
    """Find held-out rows whose prompt is trained on as well: their accuracy measures memory."""
    leaked = _shared(rows, held_out)
    share = len(leaked) / len(held_out.trees)
    says = (
        f"{len(leaked):,} of {len(held_out.trees):,} held-out rows have a prompt that is trained on"
    )
    evidence = {"share": share, "first": [held_out.origin(tree) for tree in leaked[:3]]}
    if share > LEAK and "shared_prompts" not in config.allow:
        return Finding(
            "data.leak",
            "refused",
            says,
            evidence,
            "split by prompt, or accept it: --allow shared_prompts",
        )
    return Finding("data.leak", "warning" if leaked else "ok", says, evidence)


def near_overlap(rows: Rows, held_out: Rows) -> Finding:
    """Find held-out prompts that differ from a trained one in case, blanks or punctuation alone."""
    exact = {tree.row for tree in _shared(rows, held_out)}
    asked = {
        tree.row: prompt_words(held_out.encoding.examples[tree.row].prompt)
        for tree in held_out.trees
        if tree.row not in exact
    }
    wanted, trained = set(asked.values()), set()
    for example in Picked(rows.encoding.examples, rows.trees.rows):
        words = prompt_words(example.prompt)
        if words in wanted:
            trained.add(words)
    near = [tree for tree in held_out.trees if asked.get(tree.row) in trained]
    share = len(near) / len(held_out.trees)
    says = (
        f"{len(near):,} of {len(held_out.trees):,} held-out rows have a prompt that is trained on"
        " but for case or punctuation"
    )
    evidence = {"share": share, "first": [held_out.origin(tree) for tree in near[:3]]}
    return Finding(
        "data.near_leak",
        "warning" if near else "ok",
        says,
        evidence,
        "split by prompt" if near else "",
    )
