"""`accord split`: split a file by prompt into train and held-out. Near copies of a prompt are
always on the same side.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from accord.auditing.checks.leakage import Compared, find_leaks
from accord.auditing.measure import COLUMN
from accord.auditing.scan import Scan, scan_source
from accord.auditing.thresholds import limit
from accord.data.containers import Source, locate
from accord.data.ledger import Ledger
from accord.data.naming import PLAIN, Naming, command
from accord.data.rows import reading_record
from accord.data.write import write_lines
from accord.errors import plural, printable, shorten
from accord.types import CheckpointError, DataError, UsageError

# Columns that say where a row is from, the first that a file has; the draw keeps their shares.
SOURCES = ("source", "dataset", "subset", "origin", "category", "task", "domain", "language")
RECORD = "split.json"  # the account, beside the two parts
BINS = 10  # of lengths, equally many clusters in each
TOP = 4  # values of a source that are shown
DRAWS = 8  # draws of the held-out rows: rows that leak are replaced so often
ROUNDS = 16  # in which the written files are compared; in the second half none are replaced
LEAST = 0.5  # of the wanted rows: fewer that do not leak are refused


def held_out_rows(
    scan: Scan, share: float, seed: int, banned: np.ndarray | None = None
) -> np.ndarray:
    """Mark the rows to hold out, [N] bool: whole clusters of prompts, until the share is reached.

    Clusters are sorted by source, label and length, and one of each so many neighbours is drawn by
    the seed: so the held-out rows are like the rest in all three. A cluster that would exceed the
    share is skipped, so that one large prompt cannot become the held-out set. Rows that an audit of
    the two files would call a leak, by their last turn or by their answers, go back to the rest,
    and others are drawn. Clusters with `banned` rows [N] bool are never held out.
    """
    _, first, cluster, sizes = np.unique(
        scan.groups, return_index=True, return_inverse=True, return_counts=True
    )
    order = _drawn(scan, first, cluster, sizes, share, seed).tolist()
    rows, free = Compared.of_scan(scan), np.ones(len(sizes), bool)
    if banned is not None:
        free[cluster[banned]] = False
    for _ in range(DRAWS):
        held = _taken(order, sizes, free, share * len(scan))[cluster]
        if not held.any():
            break
        leaks = np.flatnonzero(held)[find_leaks(rows.take(~held), rows.take(held)).any]
        if not len(leaks):
            break
        free[cluster[leaks]] = False
        held &= free[cluster]  # after the last draw they are not replaced
    return held


def _taken(order: list[int], sizes: np.ndarray, free: np.ndarray, wanted: float) -> np.ndarray:
    """Take free clusters in their order while they fit into the wanted number of rows."""
    chosen, taken = np.zeros(len(sizes), bool), 0
    for each in order:
        if free[each] and taken + sizes[each] <= max(1.0, wanted):
            chosen[each] = True
            taken += sizes[each]
    return chosen


def _drawn(
    scan: Scan, first: np.ndarray, cluster: np.ndarray, sizes: np.ndarray, share: float, seed: int
) -> np.ndarray:
    """Return the clusters in the order in which they are held out: one of each stratum, in a random
    order of strata, then a second of each, and so on.
    """
    rng = np.random.Generator(np.random.Philox(key=[seed, 8]))
    n = len(sizes)
    name = source_column(scan)
    source = scan.columns[name][0][first] if name else np.zeros(n, np.int64)
    label = np.round(2 * np.bincount(cluster, scan.desirable, n) / sizes)
    length = np.bincount(cluster, _characters(scan), n) / sizes
    bins = np.floor(BINS * np.argsort(np.argsort(length, kind="stable")) / n)
    # within a bin by chance, so that a stratum's clusters have nothing else in common
    order = np.lexsort((rng.random(n), bins, label, source))
    strata = np.empty(n, np.int64)
    strata[order] = np.floor(np.arange(n) * share).astype(np.int64)
    draw = rng.random(n)
    by_stratum = np.lexsort((draw, strata))
    starts = np.flatnonzero(np.r_[True, np.diff(strata[by_stratum]) > 0])
    rank = np.empty(n, np.int64)
    rank[by_stratum] = np.arange(n) - np.repeat(starts, np.diff(np.r_[starts, n]))
    return np.lexsort((rng.random(strata.max() + 1)[strata], rank))


def _characters(scan: Scan) -> np.ndarray:
    """Return the characters of each row's prompt and answers, [N]."""
    return scan.prompt_characters + scan.features[:, :, COLUMN["characters"]].sum(1)


def source_column(scan: Scan) -> str | None:
    """Return the column that says where a row is from, if there is one."""
    return next((name for name in SOURCES if name in scan.columns), None)


def comparison(scan: Scan, held: np.ndarray) -> dict[str, list]:
    """Compare the two sides of a split: what → [train, held out]."""
    sides = (~held, held)
    answers = scan.features[:, :, COLUMN["characters"]]
    names = ("chosen", "rejected") if scan.paired else ("answer",)
    table: dict[str, list] = {
        "median characters, prompt": [float(np.median(scan.prompt_characters[m])) for m in sides]
    }
    for at, name in enumerate(names):
        table[f"median characters, {name}"] = [float(np.median(answers[m, at])) for m in sides]
    if scan.turns.min() != scan.turns.max():
        table["mean turns"] = [round(float(scan.turns[m].mean()), 2) for m in sides]
    if scan.kind == "labelled":
        table["share desirable"] = [round(float(scan.desirable[m].mean()), 4) for m in sides]
    if source := source_column(scan):
        codes, values = scan.columns[source]
        for code in np.argsort(-np.bincount(codes[codes >= 0]), kind="stable")[:TOP].tolist():
            shown = shorten(printable(values[code]), 40)
            table[f"share {source} = {shown}"] = [
                round(float((codes[m] == code).mean()), 4) for m in sides
            ]
    return table


def table_lines(table: dict[str, list]) -> list[str]:
    """Lay a comparison out for a terminal."""
    width = max(map(len, table))
    lines = [f"{'':{width}}  {'train':>9}  {'held out':>9}"]
    for name, (train, held) in table.items():
        show = "{:.3f}" if name.startswith(("share", "mean")) else "{:,.0f}"
        lines.append(f"{name:{width}}  {show.format(train):>9}  {show.format(held):>9}")
    return lines


def _refuse_one_cluster(scan: Scan, share: float) -> None:
    """Refuse to split a file of which most is near copies of one prompt: what could be held out is
    the outliers, and says nothing of the rest.

    Raises:
      DataError: the largest cluster holds more than half of the rows.
    """
    if len(scan) == 1:
        raise DataError(
            f"{scan.name}: it has one row that can be used, and none beside it to hold out. Hold"
            " out rows of another file."
        )
    _, cluster, sizes = np.unique(scan.groups, return_inverse=True, return_counts=True)
    largest = int(sizes.argmax())
    if sizes[largest] <= limit("one_cluster") * len(scan):
        return
    rows = np.flatnonzero(cluster == largest)
    prompts, first = np.unique(scan.questions[rows], return_index=True)
    places = ", ".join(scan.at(int(row)) for row in rows[np.sort(first)][:2])
    copies = "have one prompt" if len(prompts) == 1 else "have near copies of one prompt"
    raise DataError(
        f"{scan.name}: {sizes[largest]:,} of {len(scan):,} rows {copies} ({places}). They stay"
        f" together, and the rest are too few to hold out {share:.0%}: outliers, which say nothing"
        " of the others.\nPut what tells the rows apart into"
        f" the prompt, take the copies out ({_thinned(scan)}), or hold out rows of another file."
    )


def _thinned(scan: Scan) -> str:
    """Return the command that writes the file with few rows of each prompt."""
    options = f"{scan.naming.options()} --fix cleaned.jsonl --max-per-prompt 8".lstrip()
    return command(scan.name, options)


def _require_enough(scan: Scan, held: np.ndarray, share: float, option: str) -> None:
    """Refuse a split that holds out no row, all of them, or far fewer than wanted.

    Raises:
      DataError: so it is.
    """
    if not held.any() or held.all():
        raise DataError(
            f"{scan.name}: its prompts form {len(np.unique(scan.groups)):,} cluster(s) of near"
            f" copies, too few to hold out {share:.0%}."
        )
    if held.sum() < LEAST * max(1.0, share * len(scan)):
        raise DataError(
            f"{scan.name}: only {plural(int(held.sum()), 'row')} can be held out without their last"
            f" turn or their answers being trained on, of {share * len(scan):,.0f} wanted."
            f" Ask for a smaller {option}, take out rows that repeat others ({_thinned(scan)}), or"
            " hold out rows of another file."
        )


def _write_apart(
    source: Source, scan: Scan, held: np.ndarray, folder: Path, share: float, seed: int, option: str
) -> tuple[np.ndarray, dict[str, int]]:
    """Write both files until an audit of the two finds no leak; return the held-out rows and the
    number of rows of each file.

    An audit learns frames and forms from each file anew, so what it finds is not what the whole
    file shows: it is asked. Rows that leak go back to training, and others are drawn; in the
    second half of the rounds none are, since each may bring another.
    """
    banned = np.zeros(len(scan), bool)
    files = {name: folder / f"{name}.jsonl" for name in ("train", "held_out")}
    for number in range(1, ROUNDS + 1):
        lines = {"held_out": set(scan.lines[held].tolist())}
        lines["train"] = set(scan.lines[~held].tolist()) - lines["held_out"]
        written = {name: write_lines(file, source, lines[name]) for name, file in files.items()}
        leaks = _leaking(files, scan)
        if not len(leaks) or number == ROUNDS:
            break
        banned |= np.isin(scan.lines, np.array(sorted(lines["held_out"]))[leaks])
        for file in files.values():
            file.unlink()
        if number < ROUNDS / 2:
            held = held_out_rows(scan, share, seed, banned)
        else:
            held = held & ~np.isin(scan.groups, scan.groups[banned])
        try:
            _require_enough(scan, held, share, option)
        except DataError:
            folder.rmdir()
            raise
    return held, written


def _leaking(files: dict[str, Path], scan: Scan) -> np.ndarray:
    """Return the rows of the held-out file, from 0, that an audit of the two files calls leaks."""
    both = []
    for name in ("train", "held_out"):
        with locate(files[name]) as source:
            both.append(scan_source(source, kind=scan.kind, naming=scan.naming, sample=0))
    found = find_leaks(*map(Compared.of_scan, both))
    return np.unique(both[1].lines[found.any]) - 1


@dataclass(frozen=True)
class Cut:
    """A file that was cut in two: the account of split.json, and the rows that neither part has."""

    account: dict
    ledger: Ledger  # of the whole file
    others: int  # rows of another kind than most


def cut(
    data: str | Path,
    output: str | Path,
    *,
    share: float = 0.1,
    seed: int = 0,
    naming: Naming = PLAIN,
    option: str = "--share",
) -> Cut:
    """Write output/train.jsonl, output/held_out.jsonl and output/split.json.

    Args:
      share: share of the rows to hold out, above 0 and below 1.
      naming: renamed and ignored columns. Rows are written as they stand, with all their columns.
      option: the option that gave the share, for messages.

    Raises:
      UsageError: a share outside (0, 1), or the folder exists.
      DataError: most prompts are near copies of each other, so that none can be held out.
    """
    if not 0 < share < 1:
        raise UsageError(f"{option} {share}: expected a share above 0 and below 1, such as 0.1.")
    folder = Path(output)
    if folder.exists():
        raise UsageError(f"{folder}: this folder exists already. Name another.")
    with locate(data) as source:
        scan = scan_source(source, naming=naming, sample=0)
        _refuse_one_cluster(scan, share)
        held = held_out_rows(scan, share, seed)
        _require_enough(scan, held, share, option)
        try:
            folder.mkdir(parents=True)
        except OSError as error:
            raise CheckpointError(f"{folder}: cannot be made: {error.strerror}.") from error
        held, written = _write_apart(source, scan, held, folder, share, seed, option)
    account = {
        "data": scan.name,
        "sha256": scan.digest,
        "rows": scan.ledger.rows,
        **written,
        "unusable": scan.ledger.rows - sum(written.values()),
        "seed": seed,
        "share": share,
        "prompts": len(np.unique(scan.questions)),
        "clusters": len(np.unique(scan.groups)),
        "held_out_clusters": len(np.unique(scan.groups[held])),
        "comparison": comparison(scan, held),
        "formats": dict(scan.formats),
        "columns": reading_record(scan.ledger)["columns"],
        "message_keys": reading_record(scan.ledger)["message_keys"],
    }
    (folder / RECORD).write_text(json.dumps(account, indent=1) + "\n", encoding="utf-8")
    return Cut(account, scan.ledger, scan.others)


def split(
    data: str | Path,
    output: str | Path,
    *,
    share: float = 0.1,
    seed: int = 0,
    naming: Naming = PLAIN,
) -> dict:
    """Cut a file in two; see `cut`.

    Returns:
      The account: rows in = train + held out + unusable; and how the file was read, in lines.
    """
    done = cut(data, output, share=share, seed=seed, naming=naming)
    return done.account | {"reading": [line.strip() for line in done.ledger.reading_lines()]}


def summary(done: Mapping, output: str) -> list[str]:
    """Return the account of `split` for a person."""
    return [
        *done["reading"],
        f"{output}/train.jsonl: {plural(done['train'], 'row')}; {output}/held_out.jsonl:"
        f" {plural(done['held_out'], 'row')}; {done['unusable']:,} unusable",
        f"{plural(done['prompts'], 'prompt')} in {plural(done['clusters'], 'cluster')},"
        f" {done['held_out_clusters']:,} of them held out; none is on both sides",
        *table_lines(done["comparison"]),
    ]
