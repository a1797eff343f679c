"""`accord audit`: one pass over the data, every check, a verdict.

file ──scan──▶ numbers of every row + a sample ──checks──▶ findings
    ──▶ verdict, terminal, JSON, page
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from accord.auditing.causes import Cause
from accord.auditing.checks import (
    belonging,
    derived_answers,
    diversity,
    exchanged,
    ids,
    integrity,
    labelled,
    labels,
    leakage,
    numbers,
    repeated_answers,
    shortcuts,
    swapped,
    two_files,
    words,
    wrecks,
)
from accord.auditing.checks.marks import mark_findings
from accord.auditing.checks.probes import Probes, probe
from accord.auditing.checks.signatures import signature_findings
from accord.auditing.checks.symptoms import with_symptoms
from accord.auditing.findings import AuditFinding, Place, by_severity
from accord.auditing.fix import Cleaned, Options, check_options, fix
from accord.auditing.prompts import prompt_text
from accord.auditing.scan import SAMPLE, Scan, recall, scan_dataset, scan_source
from accord.auditing.verdict import Verdict, judge
from accord.data.containers import Source, locate
from accord.data.naming import Naming
from accord.data.read import Dataset
from accord.data.rows import reading_record
from accord.data.write import check_rows_file
from accord.environment.threads import one_thread
from accord.errors import plural, printable, shorten
from accord.types import ROW_KINDS, Example, UsageError

SHOWN_TEXT = 160  # characters of each text of an example

Say = Callable[[str], None]


@dataclass
class Audit:
    """The result of an audit of a file."""

    scan: Scan
    probes: Probes | None
    findings: list[AuditFinding] = field(default_factory=list)
    held_out: str | None = None
    model: str | None = None
    cleaned: Cleaned | None = None
    seconds: float = 0.0

    @cached_property
    def judged(self) -> Verdict:
        """The verdict with what leads to it."""
        scan = self.scan
        return judge(self.findings, scan.name, len(scan), scan.noun)

    @property
    def verdict(self) -> str:
        """The verdict: "fit", "fit with care" or "unfit"; see `auditing.verdict`."""
        return self.judged.word

    @property
    def raised(self) -> list[AuditFinding]:
        """The findings that are not ok."""
        return [finding for finding in self.findings if finding.verdict != "ok"]

    def find(self, check: str) -> AuditFinding | None:
        """Return the finding of one check, if there is one."""
        return next((finding for finding in self.findings if finding.check == check), None)

    def always(self, check: str) -> AuditFinding:
        """Return the finding of a check that every audit makes."""
        found = self.find(check)
        assert found is not None, f"no finding {check}"
        return found

    def as_dict(self) -> dict:
        """Return a JSON-serialisable form."""
        scan = self.scan
        return self.judged.as_dict() | {
            "file": scan.name,
            "sha256": scan.digest,
            "kind": scan.kind,
            "rows": scan.ledger.rows,
            "examples": len(scan),
            "sample": len(scan.sample),
            "formats": dict(scan.formats),
            "columns": reading_record(scan.ledger)["columns"],
            "message_keys": reading_record(scan.ledger)["message_keys"],
            "held_out": self.held_out,
            "model": self.model,
            "seconds": round(self.seconds, 2),
            "cleaned": self.cleaned and self.cleaned.as_dict(),
            "findings": [each.as_dict() for each in self.findings],
        }


def audit(
    data: str | Path,
    *,
    model: str | None = None,
    held_out: str | Path | None = None,
    rows: str | None = None,
    columns: Mapping[str, str] | str | None = None,
    ignore_columns: Sequence[str] | str | None = None,
    naming: Naming | None = None,
    sample: int = SAMPLE,
    model_rows: int | None = None,
    fix_to: str | Path | None = None,
    options: Options = Options(),
    seed: int = 0,
    say: Say = lambda text: None,
) -> Audit:
    """Audit a preference file.

    Args:
      data: any container and format that training reads.
      model: name or folder of a model: adds the checks of tokens (all rows) and of hardness (a
        sample).
      held_out: the file to evaluate on: adds the checks of leakage.
      rows: "pairs", "labelled" or "demonstrations"; None takes what most rows are.
      columns: {name expected: name in the file}, or "prompt=question,chosen=good".
      ignore_columns: columns and keys of messages that hold no content.
      naming: the last two in one, in their place.
      sample: rows whose texts the probes see; all other checks see every row.
      model_rows: rows that the model reads; None is `hardness.ROWS`.
      fix_to: write a cleaned file there, by `options`.
      seed: draws the sample and the probes' folds.
      say: takes lines of progress.

    Raises:
      DataError: the file is missing, damaged, or without a usable row.
      UsageError: no such model.
    """
    start = time.monotonic()
    if fix_to is None and options != Options():
        raise UsageError(
            "--drop, --keep, --mend, --near-tie, --min-chosen-score, --max-per-prompt and"
            " --balance-length are options of --fix OUT."
        )
    if rows is not None and rows not in ROW_KINDS:
        raise UsageError(f"rows is {rows!r}; known: {', '.join(ROW_KINDS)}.")
    check_options(options)
    if model is not None:
        from accord.models.load import require_model

        require_model(model)
    if fix_to is not None:
        check_rows_file(fix_to)
    named = naming or Naming.of(columns, ignore_columns)
    with locate(data) as source:
        say(f"reading {source.name}")
        found = scan_source(
            source, kind=rows, naming=named, sample=sample, seed=seed, progress=_progress(say)
        )
        say(
            "fitting probes"
            + ("" if found.whole else f" on a sample of {len(found.sample):,} rows")
        )
        findings, probes = _checks(found, True, seed)
        findings += integrity.use_findings(found)
        if held_out is not None:
            say(f"comparing with {held_out}")
            with locate(held_out) as other:
                lenient = replace(named, lenient=True)
                held = scan_source(other, kind=found.kind, naming=lenient, sample=sample, seed=seed)
                findings += beside(found, held)
        if model is not None:
            from accord.auditing.with_model import model_findings

            findings += model_findings(found, source, model, model_rows, seed, say)
        findings = by_severity(findings)
        findings = _with_excerpts(findings, _read_again(findings, found, source))
        cleaned = None
        if fix_to is not None:
            say(f"writing {fix_to}")
            cleaned = fix(found, source, fix_to, options)
    return Audit(
        found,
        probes,
        findings,
        None if held_out is None else str(held_out),
        model,
        cleaned,
        time.monotonic() - start,
    )


def audit_dataset(
    dataset: Dataset,
    kind: str,
    sample: int = SAMPLE,
    seed: int = 0,
    *,
    held_out: Dataset | None = None,
) -> Audit:
    """Audit all rows that were read for training, without the checks that need a model.

    Args:
      kind: the kind of its examples, a key of ROW_KINDS.
      held_out: the rows to evaluate on: adds the checks that compare two files.
      sample: rows whose texts the probes see; 0 leaves the probes out. All other checks see every
        row, so that they come to what `audit` says of the same file.
    """
    start = time.monotonic()
    found = scan_dataset(dataset, kind, sample, seed)
    findings, probes = _checks(found, sample > 0, seed)
    if held_out is not None:
        findings += _beside_dataset(found, held_out, sample, seed)
    findings = by_severity(findings)
    findings = _with_excerpts(findings, {row: dataset.examples[row] for row in _named(findings)})
    compared = None if held_out is None else str(held_out.path)
    return Audit(found, probes, findings, compared, seconds=time.monotonic() - start)


@one_thread()
def _checks(scan: Scan, sample_probes: bool, seed: int) -> tuple[list[AuditFinding], Probes | None]:
    """Run every check that needs no model: causes first, then what is left of their symptoms."""
    found, causes = wrecks.wreck_findings(scan)
    repeated, of_repeated = repeated_answers.repeated_findings(scan, causes)
    derived, of_derived = derived_answers.derived_findings(scan)
    causes = [*causes, *of_repeated, *of_derived]
    more, signatures = signature_findings(scan, causes, seed)
    causes = [*causes, *signatures]
    probed = sample_probes and scan.kind != "demonstrations"
    probes = probe(scan, causes, seed) if probed else None
    found += [
        *repeated,
        *derived,
        *more,
        *_of_rows(scan),
        *ids.id_findings(scan),
        *mark_findings(scan.tables.marks, scan.at, scan.noun),
        *swapped.swapped_findings(scan, seed),
        *belonging.belonging_findings(scan, seed),
        *_of_shortcuts(scan, probes, causes),
        *_of_labels(scan, probes, causes),
        *_of_amount(scan, probes, seed),
    ]
    return with_symptoms(labels.noise_once(found), scan, causes), probes


def _of_rows(scan: Scan) -> list[AuditFinding]:
    found = [
        integrity.ledger_finding(scan),
        integrity.kind_finding(scan),
        integrity.column_finding(scan),
        integrity.duplicates(scan),
        integrity.near_duplicates(scan),
        *integrity.contradictions(scan),
        *integrity.alike_answers(scan),
        integrity.repeated_prompts(scan),
        integrity.near_prompts(scan),
    ]
    return [finding for finding in found if finding is not None]


def _of_shortcuts(scan: Scan, probes: Probes | None, causes: Sequence[Cause]) -> list[AuditFinding]:
    return [
        shortcuts.language_finding(scan),
        *words.name_once(
            [*shortcuts.rule_findings(scan, causes), *words.probe_findings(scan, probes, causes)]
        ),
        *shortcuts.side_findings(scan),
        *shortcuts.column_findings(scan),
    ]


def _of_labels(scan: Scan, probes: Probes | None, causes: Sequence[Cause]) -> list[AuditFinding]:
    witnesses = [*labels.score_findings(scan), *numbers.number_findings(scan)]
    found = [
        labels.noise(scan, probes, causes),
        labels.declared_labels(scan),
        labels.votes(scan),
        *witnesses,
        *exchanged.explained(exchanged.exchanged_findings(scan, probes), witnesses),
        labelled.balance(scan),
    ]
    return [finding for finding in found if finding is not None]


def _of_amount(scan: Scan, probes: Probes | None, seed: int) -> list[AuditFinding]:
    found = [diversity.size(scan, probes), diversity.topics(scan, seed), diversity.lengths(scan)]
    return [finding for finding in found if finding is not None]


@one_thread()
def beside(scan: Scan, held_out: Scan) -> list[AuditFinding]:
    """Run every check that compares a training file with a held-out file."""
    return [
        *leakage.leakage(scan, held_out),
        *ids.shared_ids(scan, held_out),
        *two_files.two_file_findings(scan, held_out),
    ]


def _beside_dataset(scan: Scan, held_out: Dataset, sample: int, seed: int) -> list[AuditFinding]:
    """Compare with held-out rows that are in memory. Rows of another kind (labels are trained on,
    and pairs are held out) have only prompts to compare.
    """
    kinds = {kind for kind, of in ROW_KINDS.items() if isinstance(held_out.examples[0], of)}
    if scan.kind in kinds:
        return beside(scan, scan_dataset(held_out, scan.kind, sample, seed))
    return leakage.leakage(scan, scan_dataset(held_out, kinds.pop(), sample, seed))


def _progress(say: Say) -> Callable[[int], None]:
    """Report progress every few seconds while rows are read."""
    start = last = time.monotonic()

    def progress(rows: int) -> None:
        nonlocal last
        if (now := time.monotonic()) - last > 5:
            last = now
            say(f"  {plural(rows, 'row')}, {rows / (now - start):,.0f} a second")

    return progress


def _named(findings: Sequence[AuditFinding]) -> set[int]:
    """Collect the numbers of the rows that the findings name."""
    return {place.row for finding in findings for place in finding.places if place.row >= 0}


def _read_again(findings: Sequence[AuditFinding], scan: Scan, source: Source) -> dict[int, Example]:
    """Find the named rows: those of the sample are known, the others are read again."""
    rows = _named(findings)
    known = {each.row: each.example for each in scan.sample if each.row in rows}
    missing = rows - set(known)
    if missing:
        wanted = {int(scan.lines[row]) for row in missing}
        again = recall(source, wanted, scan.kind, scan.naming)
        known |= {row: again[line][0] for row in missing if (line := int(scan.lines[row])) in again}
    return known


def _with_excerpts(
    findings: Sequence[AuditFinding], known: Mapping[int, Example]
) -> list[AuditFinding]:
    """Give each named row the beginning of its texts."""
    return [
        replace(finding, places=tuple(_excerpt(place, known) for place in finding.places))
        for finding in findings
    ]


def _excerpt(place: Place, known: Mapping[int, Example]) -> Place:
    example = known.get(place.row)
    if example is None:
        return place
    names = ("chosen", "rejected") if len(example.completions) == 2 else ("answer",)
    texts = [("prompt", prompt_text(example.prompt)), *zip(names, example.completions, strict=True)]
    return replace(place, excerpt="\n".join(f"{name}: {_shown(text)}" for name, text in texts))


def _shown(text: str) -> str:
    text = text[: SHOWN_TEXT + 1].replace("\n", " ⏎ ")
    return shorten(printable(text), SHOWN_TEXT)
