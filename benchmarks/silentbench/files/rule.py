"""The rule that says whether a fault was named. It was written before any run.

A finding of the spoiled file is **new** if its check was "ok" or absent in the audit of the same
rows without the fault, or its verdict is at least one step worse now, or the share of rows that it
states has at least doubled, or it shows what was planted and did not before.

- **named**: a new finding that is not "ok" has a check of the kind's list and, where the fault has
  a parameter that a reader must see (a phrase, a column), shows it in its title, sentence, remedy
  or rows' details. Excerpts of rows do not count: they hold the phrase by chance.
- **other cause**: nothing names it, and there is a new warning or refusal of quality.
- **missed**: neither.
- **beside**: new warnings of quality that accuse something else in a named case. A finding with
  `explained_by`, and a check in `also`, which rightly says more of the same fault, are none.

A file that cannot be read gives one finding "read", refused, with the error as its sentence.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from accord.auditing.findings import RANK, AuditFinding
from benchmarks.silentbench.files.material import Planted

SHOWS = "what was planted"  # stands for `Planted.shows`
LOUD = ("warning", "refused")
ENDS = 10  # characters of either end of a long phrase that are enough to know it by


@dataclass(frozen=True)
class Rule:
    """Which checks name a kind: check (with * for any name) to "", SHOWS, or a pattern."""

    names: dict[str, str]
    also: tuple[str, ...] = ()


def _any(*checks: str, shows: str = "") -> dict[str, str]:
    return dict.fromkeys(checks, shows)


PHRASES = _any(
    *("shortcuts.beginning", "shortcuts.ending", "shortcuts.phrase", "shortcuts.ngrams"),
    shows=SHOWS,
)
PLACES = ("shortcuts.beginning", "shortcuts.ending")
UNSEEN = r"invisib|zero.width|blank|empty|whitespace|nothing to see|U\+"
DATE = r"\bdat|0000|\d{4}|\byear|\bday"
BLANK = r"blank|space|newline|line break|\\n|\\t|\\r|\\xa0|tab\b|␣|⏎|↵|·"
LEAKS = _any("leakage.exact", "leakage.near", "leakage.contained", "leakage.answers")
NUMBERS = _any("labels.numbers_*", "labels.scores", shows=SHOWS)
COPIES = _any("integrity.near_duplicates", "integrity.duplicates")

RULES: dict[str, Rule] = {
    # copies
    "exact copies": Rule(_any("integrity.duplicates"), ("integrity.*", "diversity.*")),
    "near copies": Rule(COPIES, ("integrity.*", "diversity.*")),
    "copies in a frame": Rule(
        COPIES | _any("diversity.near_prompts"), ("integrity.*", "diversity.*")
    ),
    "contradictions": Rule(
        _any("integrity.contradictions"), ("integrity.*", "diversity.*", "labels.second_labelling")
    ),
    "an id twice": Rule(_any("integrity.ids", shows=SHOWS)),
    # belonging
    "answers of other rows, a stretch": Rule(_any("integrity.belonging")),
    "answers of other rows, scattered": Rule(_any("integrity.belonging")),
    "one side of other rows": Rule(_any("integrity.belonging")),
    "answers sorted": Rule(_any("integrity.belonging")),
    "one prompt for many answers": Rule(
        _any("integrity.belonging", "diversity.repeated_prompts"),
        ("diversity.*", "integrity.contradictions", "integrity.cycles"),
    ),
    # shortcuts
    "phrase at the beginning": Rule(PHRASES),
    "phrase at the end": Rule(PHRASES),
    "phrase within": Rule(PHRASES),
    "mark before the answer": Rule(PHRASES),
    "last character": Rule(_any(*PLACES, "shortcuts.punctuation", "shortcuts.complete_ending")),
    "blanks": Rule(_any("shortcuts.blanks") | _any(*PLACES, "shortcuts.punctuation", shows=BLANK)),
    "date stamps": Rule(_any("shortcuts.dates") | _any(*PLACES, "shortcuts.phrase", shows=DATE)),
    "running stamps": Rule(PHRASES | _any("shortcuts.dates", shows=SHOWS)),
    "capitals": Rule(_any("shortcuts.capitals")),
    "punctuation": Rule(
        _any("shortcuts.punctuation", "shortcuts.ending", "shortcuts.complete_ending")
    ),
    "quotation marks": Rule(_any("shortcuts.quotes") | _any(*PLACES, shows=SHOWS)),
    "think blocks": Rule(
        _any("shortcuts.think") | _any("shortcuts.beginning", "shortcuts.phrase", shows=SHOWS),
        ("marks.*",),
    ),
    "pet words": Rule(_any("shortcuts.ngrams", "shortcuts.phrase", shows=SHOWS)),
    "length of a side": Rule(
        _any("shortcuts.length", "shortcuts.characters", "shortcuts.words", "shortcuts.lines"),
        ("lengths.characters",),
    ),
    "layout of a side": Rule(PHRASES | _any("shortcuts.lines")),
    "column tells the label": Rule(_any("shortcuts.column_*", shows=SHOWS)),
    # wrecks
    "sentinel": Rule(_any("wrecks.sentinel")),
    "service error": Rule(_any("wrecks.error")),
    "moderation notice": Rule(_any("wrecks.moderation")),
    "placeholder": Rule(_any("wrecks.placeholder")),
    "invisible answers": Rule(
        _any("wrecks.invisible") | _any("integrity.ledger", "read", shows=UNSEEN),
        ("integrity.ledger",),
    ),
    "zero-width characters": Rule(_any("wrecks.invisible", "wrecks.watermark")),
    "page escapes and tags": Rule(_any("wrecks.html")),
    "mojibake": Rule(_any("wrecks.mojibake")),
    "literal escapes": Rule(_any("wrecks.escaped")),
    "doubled JSON": Rule(_any("wrecks.json")),
    "cut answers": Rule(_any("wrecks.cut", shows=SHOWS)),
    "cut prompts": Rule(_any("wrecks.cut", shows=SHOWS)),
    "homoglyphs": Rule(_any("wrecks.homoglyphs")),
    "watermark": Rule(_any("wrecks.watermark", "wrecks.invisible")),
    "one answer to many prompts": Rule(
        _any("wrecks.*", "integrity.belonging", "integrity.repeated_answers")
        | _any(*PLACES, "shortcuts.phrase", shows=SHOWS)
    ),
    "next turn in the answer": Rule(_any("marks.next_turn", "marks.frames"), ("marks.*",)),
    "end token in the answer": Rule(_any("marks.ends", "marks.frames"), ("marks.*",)),
    "prompt repeated in the answer": Rule(_any("marks.repeated_prompt")),
    # numbers, exchanged sides, flips
    "margin of the wrong sign": Rule(NUMBERS, ("labels.*",)),
    "grades against labels": Rule(NUMBERS, ("labels.*",)),
    "stretch exchanged beside a margin": Rule(NUMBERS | _any("labels.exchanged"), ("labels.*",)),
    "stretch exchanged beside grades": Rule(NUMBERS | _any("labels.exchanged"), ("labels.*",)),
    "stretch exchanged": Rule(_any("labels.exchanged"), ("labels.noise",)),
    "stretch exchanged, tone visible": Rule(_any("labels.exchanged"), ("labels.noise",)),
    "one source exchanged": Rule(_any("labels.exchanged", shows=SHOWS), ("labels.noise",)),
    "labels flipped": Rule(_any("labels.noise")),
    # leaks
    "leak as it stands": Rule(LEAKS, ("leakage.*",)),
    "leak behind a preamble": Rule(LEAKS, ("leakage.*",)),
    "leak in a frame": Rule(LEAKS, ("leakage.*",)),
    "leak behind a system turn": Rule(LEAKS, ("leakage.*",)),
    "leak behind earlier turns": Rule(LEAKS, ("leakage.*",)),
    "leak with typos": Rule(LEAKS, ("leakage.*",)),
    "leak reworded": Rule(LEAKS, ("leakage.*",)),
    "leak of answers": Rule(_any("leakage.answers"), ("leakage.*",)),
    "ids in both files": Rule(_any("leakage.ids", shows=SHOWS), ("integrity.ids",)),
    # held-out files of another kind
    "trivial negatives held out": Rule(
        _any("held_out.trivial", "held_out.kind"), ("held_out.*", "integrity.belonging")
    ),
    "sorted tail held out": Rule(
        _any("held_out.order", "held_out.lengths", "held_out.sources", "held_out.kind"),
        ("held_out.*", "diversity.*"),
    ),
    "other lengths held out": Rule(
        _any("held_out.lengths", "held_out.order", "held_out.kind"), ("held_out.*", "diversity.*")
    ),
    "other source held out": Rule(_any("held_out.kind", "held_out.sources"), ("held_out.*",)),
    "sides exchanged held out": Rule(_any("held_out.exchanged"), ("held_out.labels",)),
    "sides exchanged held out, tone visible": Rule(
        _any("held_out.exchanged"), ("held_out.labels",)
    ),
    "other labels held out": Rule(_any("held_out.labels"), ("held_out.exchanged",)),
}


@dataclass(frozen=True)
class Verdict:
    """The result of one case."""

    word: str  # "named", "other cause", "missed"
    check: str = ""  # of the finding that names it, or of the worst that does not
    loud: bool = False  # named by a warning or a refusal, and not by a note
    says: str = ""
    beside: tuple[str, ...] = ()  # checks of new warnings that accuse something else


def judge(
    rule: Rule, planted: Planted, before: Sequence[AuditFinding], after: Sequence[AuditFinding]
) -> Verdict:
    """Judge the findings of a spoiled file against those of the same rows without the fault."""
    known = {finding.check: finding for finding in before}
    names = rule.names | dict.fromkeys(planted.extra, "")
    naming: list[AuditFinding] = []
    others: list[AuditFinding] = []
    for finding in after:
        match = _names(names, planted, finding)
        old = known.get(finding.check)
        fresh = is_new(finding, old) or (match and not _names(names, planted, old or finding))
        if not fresh or finding.verdict == "ok":
            continue
        if match:
            naming.append(finding)
        elif is_accusation(finding) and not _listed(finding.check, rule.also):
            others.append(finding)
    beside = tuple(finding.check for finding in others if not finding.explained_by)
    for found, word in ((naming, "named"), (others, "other cause")):
        if found:
            worst = min(found, key=lambda finding: RANK[finding.verdict])
            loud = worst.verdict in LOUD
            return Verdict(word, worst.check, loud, worst.says, beside)
    return Verdict("missed")


def is_accusation(finding: AuditFinding) -> bool:
    """Tell whether a finding accuses the file: what a clean file must not get."""
    return finding.verdict in LOUD and finding.aspect != "size"


def is_new(finding: AuditFinding, old: AuditFinding | None) -> bool:
    """Tell whether the file without the fault did not get this finding, or only a milder one."""
    if old is None or old.verdict == "ok":
        return True
    return RANK[finding.verdict] < RANK[old.verdict] or stated(finding) >= 2 * stated(old) > 0


def stated(finding: AuditFinding) -> float:
    """Return the share of rows that a finding states: the larger side's; else its harm."""
    share, shares = finding.evidence.get("share"), finding.evidence.get("shares")
    if isinstance(share, (int, float)):
        return float(share)
    if isinstance(shares, dict):
        return max((v for v in shares.values() if isinstance(v, (int, float))), default=0.0)
    return finding.harm


def _listed(check: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(check.lower(), pattern.lower()) for pattern in patterns)


def _names(names: dict[str, str], planted: Planted, finding: AuditFinding) -> bool:
    for check, shows in names.items():
        if not _listed(finding.check, (check,)):
            continue
        if shows == SHOWS:
            if not planted.shows or _shown(planted.shows, finding):
                return True
        elif re.search(shows, words_of(finding), re.IGNORECASE):
            return True
    return False


def words_of(finding: AuditFinding) -> str:
    """Join what a reader sees of a finding but for the excerpts of its rows."""
    details = [place.detail for place in finding.places]
    name = finding.check.partition("_")[2]  # of a column
    return "\n".join([name, finding.title, finding.says, finding.remedy, *details])


def _shown(shows: Sequence[str], finding: AuditFinding) -> bool:
    seen = words_of(finding)
    return any(_holds(seen, each) for each in shows)


def _holds(seen: str, phrase: str) -> bool:
    """Tell whether a phrase stands there: shortened at an end, half of it, or escaped."""
    plain = re.sub(r"[\W_]+", " ", phrase).strip().lower()
    if not plain:
        return phrase.strip() in seen or repr(phrase)[1:-1] in seen
    if not re.search(r"\w\w", plain):  # a mark such as "(A)": its letters alone stand everywhere
        return phrase.strip() in seen
    text = re.sub(r"(?<=\d),(?=\d{3})", "", seen)
    text = re.sub(r"[\W_]+", " ", text).lower()
    if f" {plain} " in f" {text} ":
        return True
    if len(plain) > 2 * ENDS and (plain[:ENDS] in text or plain[-ENDS:] in text):
        return True
    parts = plain.split()
    run = max(3, (len(parts) + 1) // 2)  # words in a row that are enough: half of the phrase
    runs = (" ".join(parts[i : i + run]) for i in range(len(parts) - run + 1))
    return any(f" {each} " in f" {text} " for each in runs)
