"""Integrity of the file: unreadable rows, copies, and pairs that contradict each other or form
cycles.
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from accord.auditing import minhash
from accord.auditing.findings import AuditFinding, Place, grade, out_of, percent
from accord.auditing.measure import COLUMN
from accord.auditing.otherwise import ask_otherwise, reads_alike
from accord.auditing.scan import Scan
from accord.auditing.thresholds import limit
from accord.data.read import GUESSED, Reading, reading_test
from accord.data.refusals import remedies
from accord.data.unread import ColumnAccount
from accord.errors import plural

SHOWN = 5  # rows named with a finding
TELLING_ANSWER = 80  # characters of each answer, under which many questions have the same


def places(scan: Scan, rows, detail) -> tuple[Place, ...]:
    """Return the first rows of a finding; `detail` is a text or a function of the row."""
    rows = [int(row) for row in rows[:SHOWN]]
    return tuple(
        Place(scan.at(row), detail(row) if callable(detail) else detail, row) for row in rows
    )


def mixed(*columns: np.ndarray) -> np.ndarray:
    """Combine several columns of hashes into one hash; the order of columns matters."""
    total = np.zeros(len(columns[0]), np.uint64)
    for column in columns:
        total = (total ^ column) * np.uint64(0x9E3779B97F4A7C15)
        total ^= total >> np.uint64(29)
    return total


def ledger_finding(scan: Scan) -> AuditFinding:
    """Count rows that could not be used, by reason."""
    ledger = scan.ledger
    share = ledger.rejected_share
    verdict = grade(share, limit("rejected"), limit("rejected_unfit"))
    first = [ledger.places(reason, 1)[0] for reason in ledger.reasons][:SHOWN]
    shown = tuple(Place(str(p.origin), f"{p.reason}: {p.says}", excerpt=p.excerpt) for p in first)
    says = (
        f"{plural(ledger.rows, 'row')} = {ledger.used:,} used + {len(ledger.rejected):,} rejected"
    )
    if ledger.rejected:
        says += ": " + "; ".join(f"{n:,} {reason}" for reason, n in ledger.reasons.most_common(5))
    return AuditFinding(
        "integrity.ledger",
        verdict,
        says,
        {"share": share, **ledger.as_dict()},
        "mend the rows, or write the file without them" if share else "",
        title="Unusable rows",
        why=(
            "An empty or identical answer has no preference to learn; a broken line is a row that"
            " silently went missing."
        ),
        command="--fix OUT" if share else "",
        harm=share,
        places=shown,
    )


NOTES = 8  # notes on rows that are shown, the commonest first


def column_finding(scan: Scan) -> AuditFinding | None:
    """Report how the file was read: its formats, and every column and message key that no format
    reads. Content that nothing reads makes the file unfit.
    """
    account = scan.ledger.columns
    if account is None:
        return None
    lines = [line.strip() for line in scan.ledger.reading_lines()]
    guessed = [note for note in scan.ledger.notes if note.startswith(GUESSED)]
    told = dict(scan.ledger.notes.most_common(NOTES)) | {n: scan.ledger.notes[n] for n in guessed}
    lines += [f"{plural(count, 'row')}: {note}" for note, count in told.items()]
    record = {"columns": account.as_dict(), "message_keys": account.keys_as_dict()}
    lost = [*account.content, *account.content_keys]
    named = [name for table in record.values() for name in table["unread"]]
    remedy = command = ""
    if lost and isinstance(account, ColumnAccount):
        gone = tuple(dict.fromkeys(entry.name for entry in lost))
        remedy = "read it under a name that the format takes, or say that it is no content"
        found = remedies(account, reading_test(Reading(naming=account.naming)))
        command = (
            f"accord audit DATA {found[0][1] if found else account.naming.options(ignored=gone)}"
        )
    first = [Place(f"{scan.name}:{e.first}", f"{e.name}: {e.says()}") for e in lost[:SHOWN]]
    return AuditFinding(
        "columns.unread",
        "refused" if lost else "note" if named or guessed else "ok",
        "; ".join(lines),
        record,
        remedy,
        title="Content that nothing reads" if lost else "Columns and keys",
        why="The model would be trained without it: the question's material, a system text, tools.",
        command=command,
        harm=1.0 if lost else 0.0,
        places=tuple(first),
    )


def kind_finding(scan: Scan) -> AuditFinding:
    """Count rows of another kind than most."""
    total = len(scan) + scan.others
    says = plural(len(scan), scan.noun[:-1]) + (
        f", and {plural(scan.others, 'row')} of another kind, passed by" if scan.others else ""
    )
    return AuditFinding(
        "integrity.kind",
        "warning" if scan.others else "ok",
        says,
        {"kind": scan.kind, "others": scan.others, "formats": dict(scan.formats)},
        "one file for each kind of row" if scan.others else "",
        title="Mixed kinds of rows",
        why="A run trains on one kind; the others would be left out or converted.",
        harm=scan.others / max(1, total),
    )


# kind of rows -> what they are, and what trains on them
USES = {
    "demonstrations": ("one answer each, and nothing to compare it with", "sft"),
    "labelled": ("answers labelled good or bad one at a time, not paired", "kto"),
}


def use_findings(scan: Scan) -> list[AuditFinding]:
    """Say what trains on rows that are no pairs, which DPO and its kin do not."""
    if scan.kind not in USES:
        return []
    what, method = USES[scan.kind]
    return [
        AuditFinding(
            "integrity.use",
            "note",
            f"{what}. They are for --method {method}; DPO and its kin need a chosen and a rejected"
            " answer to each prompt",
            {"kind": scan.kind, "method": method},
            title="Kind of rows",
            why="accord train takes --method dpo by default, which cannot use them.",
            command=f"accord train DATA --method {method}",
        )
    ]


def duplicate_rows(scan: Scan) -> np.ndarray:
    """Mark rows that repeat an earlier row, [N] bool: same prompt, same answers, same order, same
    label.
    """
    key = mixed(scan.prompts, *scan.answers.T, scan.desirable.astype(np.uint64))
    _, first = np.unique(key, return_index=True)
    out = np.ones(len(scan), bool)
    out[first] = False
    return out


def duplicates(scan: Scan) -> AuditFinding:
    """Count exact copies of whole rows."""
    rows = np.flatnonzero(duplicate_rows(scan))
    share = len(rows) / len(scan)
    return AuditFinding(
        "integrity.duplicates",
        grade(share, limit("duplicates"), limit("duplicates_unfit"), rows=len(rows)),
        f"{out_of(len(rows), len(scan), scan.noun)} repeat an earlier row exactly",
        {"count": len(rows), "share": share},
        "drop the copies" if len(rows) else "",
        title="Repeated rows",
        why="A copy counts double in every epoch, and lands in both halves of a split by row.",
        command="--fix OUT" if len(rows) else "",
        harm=share,
        places=places(scan, rows, "a copy of an earlier row"),
    )


def near_duplicate_rows(scan: Scan) -> np.ndarray:
    """Mark rows whose prompt and answers all nearly equal those of an earlier row, without being
    exact copies, [N] bool.

    A prompt with another word is nearly equal only if its answers are long and the same: one label
    stands under many questions, and a name that was changed in both makes another row.
    """
    pairs = minhash.links(
        np.ascontiguousarray(scan.answer_signs[:, 0]), limit("near_jaccard"), scan.groups
    )
    if not len(pairs):
        return np.zeros(len(scan), bool)
    one, two = pairs.T
    alike = (minhash.similarities(scan.answer_signs, pairs) >= limit("near_jaccard")).all(1)
    alike &= scan.desirable[one] == scan.desirable[two]
    alike &= reads_alike(scan.said, pairs) | (
        (scan.folded[one] == scan.folded[two]).all(1)
        & (scan.features[one, :, COLUMN["characters"]] >= TELLING_ANSWER).all(1)
    )
    alike &= ~ask_otherwise(scan.said, pairs)
    cluster = minhash.clusters(len(scan), pairs[alike])
    first = np.full(int(cluster.max()) + 1, len(scan))
    np.minimum.at(first, cluster, np.arange(len(scan)))
    return (first[cluster] < np.arange(len(scan))) & ~duplicate_rows(scan)


def near_duplicates(scan: Scan) -> AuditFinding:
    """Count rows that hardly differ from another row, in prompt and in answers."""
    rows = np.flatnonzero(near_duplicate_rows(scan))
    share = len(rows) / len(scan)
    return AuditFinding(
        "integrity.near_duplicates",
        grade(share, limit("near_prompts")),
        f"{out_of(len(rows), len(scan), scan.noun)} nearly repeat an earlier row in prompt and"
        " answers",
        {"count": len(rows), "share": share, "jaccard": limit("near_jaccard")},
        "drop the copies, or keep them together when splitting" if len(rows) else "",
        title="Near copies",
        why="Near copies weigh their content double and leak over a split by row.",
        command="--fix OUT" if len(rows) else "",
        harm=0.5 * share,
        places=places(scan, rows, "nearly an earlier row"),
    )


def knots(scan: Scan) -> tuple[np.ndarray, np.ndarray]:
    """Mark (contradictory, cyclic) rows, [N] bool each.

    The answers to a prompt are nodes, and each pair is an edge from chosen to rejected. If both
    ends of a row lie in one strongly connected component, the row is part of A ≻ B ≻ … ≻ A. It is a
    contradiction if the file also holds B ≻ A itself, else a cycle.
    """
    ends = [mixed(scan.prompts, scan.answers[:, side]) for side in (0, 1)]
    _, node = np.unique(np.concatenate(ends), return_inverse=True)
    better, worse = node[: len(scan)], node[len(scan) :]
    size = int(node.max()) + 1
    graph = coo_matrix((np.ones(len(scan), np.int8), (better, worse)), shape=(size, size))
    component = connected_components(graph, directed=True, connection="strong")[1]
    caught = component[better] == component[worse]
    forward, backward = (
        better.astype(np.int64) * size + worse,
        worse.astype(np.int64) * size + better,
    )
    contradictory = caught & np.isin(forward, backward[caught])
    return contradictory, caught & ~contradictory


def contradictions(scan: Scan) -> list[AuditFinding]:
    """Find pairs that contradict each other: A ≻ B and B ≻ A, or A ≻ B ≻ C ≻ A. In labelled rows,
    find answers that are both desirable and not.
    """
    if not scan.paired:
        return [_label_conflicts(scan)]
    opposed, cyclic = (np.flatnonzero(mask) for mask in knots(scan))
    share = len(opposed) / len(scan)
    return [
        AuditFinding(
            "integrity.contradictions",
            grade(share, limit("contradictions"), limit("contradictions_unfit"), rows=len(opposed)),
            f"{out_of(len(opposed), len(scan), 'pairs')} say A ≻ B where another row says B ≻ A",
            {"count": len(opposed), "share": share},
            "drop both, or settle them by vote" if len(opposed) else "",
            title="Contradictory pairs",
            why=(
                "Of two opposite verdicts at least one is noise; their gradients cancel and only"
                " the drift stays."
            ),
            command="--fix OUT" if len(opposed) else "",
            harm=share,
            places=places(
                scan,
                _together(scan, opposed),
                "the same two answers are ranked the other way round elsewhere",
            ),
        ),
        AuditFinding(
            "integrity.cycles",
            grade(len(cyclic) / len(scan), limit("contradictions"), rows=len(cyclic)),
            f"{out_of(len(cyclic), len(scan), 'pairs')} lie on a cycle A ≻ B ≻ C ≻ A",
            {"count": len(cyclic)},
            "drop the cycle's weakest pair, or settle it by score" if len(cyclic) else "",
            title="Cycles",
            why="No reward ranks a cycle: Bradley-Terry models, DPO among them, cannot fit it.",
            command="--fix OUT --drop cycles" if len(cyclic) else "",
            harm=len(cyclic) / len(scan),
            places=places(scan, cyclic, "this pair closes a cycle"),
        ),
    ]


def _label_conflicts(scan: Scan) -> AuditFinding:
    rows = np.flatnonzero(conflicting_labels(scan))
    share = len(rows) / len(scan)
    return AuditFinding(
        "integrity.contradictions",
        grade(share, limit("contradictions"), limit("contradictions_unfit"), rows=len(rows)),
        f"{out_of(len(rows), len(scan), scan.noun)} have the same prompt and answer with the other"
        " label elsewhere",
        {"count": len(rows), "share": share},
        "drop both" if len(rows) else "",
        title="Contradictory labels",
        why="Of two opposite labels at least one is noise.",
        command="--fix OUT" if len(rows) else "",
        harm=share,
        places=places(scan, _together(scan, rows), "labelled the other way elsewhere"),
    )


def conflicting_labels(scan: Scan) -> np.ndarray:
    """Mark labelled rows whose prompt and answer also occur with the other label, [N] bool."""
    key = mixed(scan.prompts, scan.answers[:, 0])
    return np.isin(key, key[scan.desirable]) & np.isin(key, key[~scan.desirable])


def _together(scan: Scan, rows: np.ndarray) -> np.ndarray:
    """Sort rows so that those of one prompt are adjacent."""
    return rows[np.lexsort((rows, scan.prompts[rows]))] if len(rows) else rows


def alike_answers(scan: Scan) -> list[AuditFinding]:
    """Find pairs whose two answers are nearly the same, or the same except for case and blanks."""
    if not scan.paired:
        return []
    same = scan.folded[:, 0] == scan.folded[:, 1]
    close = ~same & (
        minhash.similarity(scan.answer_signs[:, 0], scan.answer_signs[:, 1])
        >= limit("same_answers")
    )
    folded, near = np.flatnonzero(same), np.flatnonzero(close)
    share = len(near) / len(scan)
    return [
        AuditFinding(
            "integrity.same_answers",
            grade(len(folded) / len(scan), limit("rejected"), rows=len(folded)),
            f"{out_of(len(folded), len(scan), 'pairs')} have answers that differ in case or blanks"
            " alone",
            {"count": len(folded)},
            "drop them" if len(folded) else "",
            title="Answers that are the same",
            why="Such a pair teaches layout, or nothing.",
            command="--fix OUT" if len(folded) else "",
            harm=len(folded) / len(scan),
            places=places(scan, folded, "the answers differ in case or blanks alone"),
        ),
        AuditFinding(
            "hardness.near_identical",
            # a note: sound pairs of code, maths or edits differ in a few characters that decide
            "note" if len(near) else "ok",
            f"{out_of(len(near), len(scan), 'pairs')} have nearly identical answers (Jaccard ≥"
            f" {limit('same_answers')})",
            {"count": len(near), "share": share},
            (
                "train with an SFT term or a smaller learning rate, and watch logps/chosen"
                if share >= limit("near_identical_pairs")
                else ""
            ),
            title="Nearly identical answers",
            harm=0.5 * share,
            why=(
                "DPO pushes both answers down where they share most tokens (likelihood"
                " displacement, Pal et al. 2024, arXiv:2402.13228)."
            ),
            places=places(scan, near, "the answers differ in a few characters"),
        ),
    ]


def repeated_prompts(scan: Scan) -> AuditFinding:
    """Count prompts that occur many times, and the number of prompts that the file
    effectively has.

    Several rows a prompt are a property of sound files (four answers, ranked, are six pairs). It is
    a fault where one prompt is a large part of the file.
    """
    prompts, first, sizes = np.unique(scan.questions, return_index=True, return_counts=True)
    effective = float(len(scan) ** 2 / np.square(sizes.astype(float)).sum())
    largest = int(sizes.max())
    order = np.argsort(-sizes, kind="stable")[:SHOWN]
    fault = largest >= limit("repeats") and largest / len(scan) >= limit("one_prompt")
    verdict = (
        "warning"
        if fault
        else "note"
        if largest >= limit("repeats") or effective < limit("effective_share") * len(scan)
        else "ok"
    )
    says = (
        f"{plural(len(prompts), 'prompt')} in {len(scan):,} {scan.noun}; the commonest has"
        f" {largest:,}; "
        f"worth {effective:,.0f} prompts that come once (Kish)"
    )
    return AuditFinding(
        "diversity.repeated_prompts",
        verdict,
        says,
        {
            "prompts": len(prompts),
            "largest": largest,
            "effective": effective,
            "per_prompt": len(scan) / len(prompts),
        },
        (
            "find out why so many rows have one prompt, or cap them"
            if fault
            else "split by prompt"
            if verdict != "ok"
            else ""
        ),
        title="One prompt in many rows" if fault else "Repeated prompts",
        why=(
            "Rows of one prompt say one thing often: intervals by row are too narrow, and a split"
            " by row leaks."
        ),
        command=(
            f"--fix OUT --max-per-prompt {int(limit('repeats'))}"
            if fault
            else "accord split DATA --output split"
            if verdict != "ok"
            else ""
        ),
        harm=largest / len(scan),
        places=places(
            scan,
            first[order],
            lambda row: (
                f"{plural(int(sizes[prompts == scan.questions[row]][0]), 'row has', 'rows have')}"
                " this prompt"
            ),
        ),
    )


def near_prompts(scan: Scan) -> AuditFinding:
    """Count prompts that are nearly another prompt. Prompts that fill in one form are sound; what
    they ask for is another split.
    """
    exact, clusters = len(np.unique(scan.questions)), len(np.unique(scan.groups))
    share = 1 - clusters / exact
    return AuditFinding(
        "diversity.near_prompts",
        "note" if share >= limit("near_prompts_note") else "ok",
        f"{plural(exact, 'prompt falls', 'prompts fall')} into {plural(clusters, 'cluster')} of"
        f" near copies ({percent(share)} are a"
        " near copy of another)",
        {"prompts": exact, "clusters": clusters, "share": share},
        "split by cluster, as accord split does" if share >= limit("near_prompts") else "",
        title="Near copies of prompts",
        why="A held-out row whose prompt is nearly trained on measures memory.",
        command="accord split DATA --output split" if share >= limit("near_prompts") else "",
        harm=0.3 * share,
    )
