"""The verdict on a file, and the sentences that every command writes of it.

The rule:

- *unfit*: a finding of quality is refused. Training would learn the fault, or could not learn at
  all: content that nothing reads, sides exchanged, one label only, a mark or a feature that decides
  nearly every row, labels near coin flips.
- *fit with care*: a finding of quality is a warning. The fault costs some of the signal, and the
  finding names the rows and the remedy.
- *fit*: neither. A property of sound data is a note and counts for nothing: several rows a prompt,
  prompts that are built alike, more good labels than bad ones, long texts, answers that nearly
  agree.
- The amount stands apart: "small" is a word beside the verdict. It never changes the verdict,
  since few sound rows are sound.
- A symptom stands under its cause. The cause weighs as much as the worst of the two.

`accord audit`, its page, `accord advise` and a run's own audit all take the verdict and the
sentences from `judge`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from accord.auditing.findings import NOUNS, RANK, AuditFinding, Place
from accord.auditing.thresholds import limit

# the rule in short, for the page
RULE = {
    "unfit": (
        "training would learn the fault, or nothing: content that nothing reads, sides exchanged,"
        " one label only, a mark or a feature that decides nearly every row, labels near coin"
        " flips"
    ),
    "fit with care": "a fault costs some of the signal; its finding names the rows and the remedy",
    "fit": (
        "no such fault. Properties of sound data are notes and count for nothing: several rows a"
        " prompt, prompts built alike, more labels of one kind, long texts"
    ),
    "small": (
        f"under {limit('few_pairs'):,.0f} rows (very small: under {limit('very_few_pairs'):,.0f});"
        " said apart, and never a reason for another verdict"
    ),
}
WORDS = {"fit": "FIT", "fit with care": "FIT WITH CARE", "unfit": "UNFIT"}
BY_RANK = {RANK["refused"]: "unfit", RANK["warning"]: "fit with care"}
NAMED = 3  # causes that the headline names


@dataclass(frozen=True)
class Cause:
    """A finding that counts for the verdict, and the findings that it explains."""

    finding: AuditFinding
    symptoms: tuple[AuditFinding, ...] = ()

    @property
    def rank(self) -> int:
        """The rank of the worst of them."""
        return min(RANK[each.verdict] for each in (self.finding, *self.symptoms))

    @property
    def harm(self) -> float:
        """The largest share of the signal that any of them spoils."""
        return max(each.harm for each in (self.finding, *self.symptoms))


@dataclass(frozen=True)
class Verdict:
    """The verdict on a file, with what leads to it, in the order in which it should be read."""

    name: str  # of the file
    amount: str  # such as "420 pairs"
    word: str  # "fit", "fit with care" or "unfit"
    size: str  # "", "small" or "very small"
    causes: tuple[Cause, ...]  # faults, the worst first
    notes: tuple[Cause, ...]  # properties, worth knowing
    sizes: tuple[AuditFinding, ...]  # findings on the amount
    passed: tuple[AuditFinding, ...]

    @property
    def words(self) -> str:
        """The verdict in a few words, such as "fit with care, small"."""
        return f"{self.word}, {self.size}" if self.size else self.word

    @property
    def headline(self) -> str:
        """The verdict in one line: the word, the size, the file, and the worst causes."""
        return f"{WORDS[self.word]}{f', {self.size}' if self.size else ''}: {self.subject}"

    @property
    def subject(self) -> str:
        """The file and the worst causes, as they stand behind the verdict."""
        # without its folders: the line must be read at a glance
        line = f"{self.name.rstrip('/').rpartition('/')[2] or self.name}, {self.amount}"
        titles = list(dict.fromkeys(cause.finding.title for cause in self.causes))
        more = [f"and {len(titles) - NAMED} more"] if len(titles) > NAMED else []
        return f"{line} ({'; '.join([*titles[:NAMED], *more])})" if titles else line

    @property
    def counts(self) -> str:
        """The number of findings of each sort, in one line."""
        unfit = sum(cause.rank == RANK["refused"] for cause in self.causes)
        counted = [
            (unfit, "that make" if unfit > 1 else "that makes", " it unfit"),
            (len(self.causes) - unfit, "to take care of", ""),
            (len(self.notes), "to know", ""),
            (len(self.passed), "checks without a finding", ""),
        ]
        return ", ".join(f"{count} {what}{rest}" for count, what, rest in counted if count)

    def as_dict(self) -> dict:
        """Return the keys of --json that the verdict adds."""
        return {
            "verdict": self.word,
            "size": self.size,
            "headline": self.headline,
            "causes": [
                {
                    "check": each.finding.check,
                    "symptoms": [symptom.check for symptom in each.symptoms],
                }
                for each in self.causes
            ],
        }


def judge(findings: Iterable[AuditFinding], name: str, rows: int, noun: str) -> Verdict:
    """Judge a file by its findings; the rule stands at the top of this file.

    Args:
      name: the file's name.
      rows: how many rows it has that can be used, and `noun` their name.
    """
    every = list(findings)
    raised = [each for each in every if each.verdict != "ok"]
    sizes = [each for each in raised if each.aspect == "size"]
    told = _grouped([each for each in raised if each.aspect != "size"])
    causes = [each for each in told if each.rank < RANK["note"]]
    return Verdict(
        name,
        f"{rows:,} {noun if rows != 1 else noun[:-1]}",
        BY_RANK.get(min((each.rank for each in causes), default=RANK["ok"]), "fit"),
        size_word(rows),
        tuple(causes),
        tuple(each for each in told if each.rank == RANK["note"]),
        tuple(sizes),
        tuple(each for each in every if each.verdict == "ok"),
    )


def judge_record(record: Mapping) -> Verdict:
    """Judge a written audit, such as a run's audit.json, by the same rule."""
    findings = [
        AuditFinding(
            each["check"],
            each["verdict"],
            each["says"],
            each["evidence"],
            each["remedy"],
            title=each["title"],
            why=each["why"],
            command=each["command"],
            harm=each["harm"],
            places=tuple(
                Place(row["at"], row["detail"], -1, row["excerpt"]) for row in each["rows"]
            ),
            # audits of accord 0.3 and earlier have neither
            aspect=each.get("aspect", "quality"),
            explained_by=each.get("explained_by", ""),
        )
        for each in record["findings"]
    ]
    return judge(findings, record["file"], record["examples"], NOUNS.get(record["kind"], "rows"))


def size_word(rows: int) -> str:
    """Return "very small", "small" or "" for a number of rows."""
    few, very_few = limit("few_pairs"), limit("very_few_pairs")
    return "very small" if rows < very_few else "small" if rows < few else ""


def _grouped(raised: Sequence[AuditFinding]) -> list[Cause]:
    """Put each symptom under its cause; the worst first.

    A symptom whose cause was not raised stands for itself. Of a chain of symptoms all stand under
    the first cause, and findings that explain each other stand for themselves.
    """
    by_name = {each.check: each for each in raised}
    under: dict[str, list[AuditFinding]] = {}
    own = []
    for each in raised:
        root = _root(each, by_name)
        if root == each.check:
            own.append(each)
        else:
            under.setdefault(root, []).append(each)
    causes = [Cause(each, tuple(_worst_first(under.pop(each.check, [])))) for each in own]
    return sorted(causes, key=lambda each: (each.rank, -each.harm, each.finding.check))


def _root(finding: AuditFinding, by_name: dict[str, AuditFinding]) -> str:
    """Return the check at the end of a chain of causes; its own if the chain leads nowhere."""
    at, seen = finding.check, {finding.check}
    while (cause := by_name[at].explained_by) in by_name:
        if cause in seen:
            return finding.check
        seen.add(cause)
        at = cause
    return at


def _worst_first(findings: Iterable[AuditFinding]) -> list[AuditFinding]:
    return sorted(findings, key=lambda each: (RANK[each.verdict], -each.harm, each.check))
