"""What the preferences themselves give away, cheaply and before training: contradictions, repeats,
shortcuts, scores.

None of this stops a run. It is said, with figures, since a model that learns it looks well on its
own data.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence

from accord.types import Example, Finding, Pair, Turn

SHORTCUT = 0.65  # a one-feature rule that orders pairs better than this is worth a word
ENOUGH = 50  # pairs on which a rule must say something before it is judged
TELLING = 10  # … and those in which its value differs at all
CONTRADICTED = 0.01  # share of pairs that another row contradicts
REPEATED = 0.10  # share of rows that repeat another row word for word
DOMINANT = 0.10  # share of rows with one and the same prompt …
DOMINANT_ROWS = 20  # … and how many they must be
AGAINST, TIED = 0.01, 0.20  # share of pairs whose scores say otherwise, or nothing
SCORES = (
    ("score_chosen", "score_rejected"),
    ("chosen_score", "rejected_score"),
    ("chosen_rating", "rejected_rating"),
)

MARKDOWN = re.compile(r"^\s*(?:[-*#]|\d+\.)\s|\*\*|```", re.MULTILINE)
REFUSAL = re.compile(
    r"\bI(?:'m| am) (?:sorry|unable)|\bI (?:cannot|can't|won't)\b|\bas an AI\b", re.IGNORECASE
)
FEATURES: dict[str, Callable[[str], float]] = {
    "the longer answer": len,
    "the answer with more markdown": lambda text: len(MARKDOWN.findall(text)),
    "the answer with more lines": lambda text: text.count("\n"),
    "the answer that refuses": lambda text: bool(REFUSAL.search(text)),
    "the answer with more exclamation marks": lambda text: text.count("!"),
    "the answer with more characters beyond ASCII": lambda text: sum(ord(c) > 127 for c in text),
    "the answer that ends in a full stop": lambda text: text.rstrip().endswith("."),
}


def content_findings(examples: Sequence[Example]) -> list[Finding]:
    """One finding a check; notes and warnings only."""
    out = [_repeats(examples), _dominant_prompt(examples)]
    pairs = [example for example in examples if isinstance(example, Pair)]
    if pairs:
        out += [_contradictions(pairs), _shortcuts(pairs)]
        if (scores := _scores(pairs)) is not None:
            out.append(scores)
    return out


def words(turns: Sequence[Turn]) -> str:
    """What a prompt says, without case, blanks and punctuation: two prompts that differ in nothing
    else are one.
    """
    return " ".join(re.findall(r"\w+", " ".join(turn.content for turn in turns).casefold()))


def _finding(check: str, warn: bool, says: str, evidence: dict, remedy: str = "") -> Finding:
    return Finding(check, "warning" if warn else "ok", says, evidence, remedy if warn else "")


def _repeats(examples: Sequence[Example]) -> Finding:
    seen: set = set()
    again = []
    for example in examples:
        row = (example.prompt, example.completions)
        if row in seen:
            again.append(str(example.origin))
        seen.add(row)
    share = len(again) / max(1, len(examples))
    says = f"{len(again):,} of {len(examples):,} rows repeat another row word for word"
    return _finding(
        "data.repeats",
        share > REPEATED,
        says,
        {"share": share, "first": again[:3]},
        "drop the repeats",
    )


def _dominant_prompt(examples: Sequence[Example]) -> Finding:
    """The effective number of prompts is 1 / Σ share²: rows of one prompt are not so many different
    lessons.
    """
    counts = Counter(example.prompt for example in examples)
    effective = len(examples) ** 2 / sum(count * count for count in counts.values())
    most = max(counts.values())
    says = (
        f"{len(counts):,} prompts in {len(examples):,} rows, effectively {effective:.0f}; the"
        f" commonest in {most:,} rows"
    )
    warn = most >= DOMINANT_ROWS and most > DOMINANT * len(examples)
    evidence = {"prompts": len(counts), "effective": effective, "most": most}
    return _finding("data.prompts", warn, says, evidence, "keep a few rows of each prompt")


def _contradictions(pairs: Sequence[Pair]) -> Finding:
    """Pairs that another row states the other way round. Both are in the count: one of the two is
    wrong.
    """
    stated = Counter((pair.prompt, pair.chosen, pair.rejected) for pair in pairs)
    against = [pair for pair in pairs if (pair.prompt, pair.rejected, pair.chosen) in stated]
    share = len(against) / len(pairs)
    says = (
        f"{len(against):,} of {len(pairs):,} pairs are contradicted by another row (A over B, and B"
        " over A)"
    )
    evidence = {"share": share, "first": [str(pair.origin) for pair in against[:3]]}
    return _finding(
        "data.contradictions",
        share > CONTRADICTED,
        says,
        evidence,
        "drop them, or use cdpo, robust or ipo",
    )


def _shortcuts(pairs: Sequence[Pair]) -> Finding:
    """How well rules that never read the prompt order the pairs; every offender is named."""
    scores = {
        name: score
        for name, feature in FEATURES.items()
        if (score := _one_rule(pairs, feature)) is not None
    }
    if not scores:
        return Finding(
            "data.shortcut", "ok", "no one-feature rule has enough pairs to be judged on"
        )
    ranked = sorted(scores, key=lambda name: -scores[name]["low"])
    told = [name for name in ranked if scores[name]["low"] > SHORTCUT]
    says = "; ".join(
        f"{name} is the {scores[name]['side']} one in {scores[name]['share']:.0%} of pairs (at"
        f" least {scores[name]['low']:.0%}, 95 %)"
        for name in told or ranked[:1]
    )
    remedy = (
        "the model can learn this instead of the preference: balance the sides, or normalise by"
        " length (simpo, ipo)"
    )
    return _finding("data.shortcut", bool(told), says, {"rules": scores}, remedy)


def _one_rule(pairs: Sequence[Pair], feature: Callable[[str], float]) -> dict | None:
    """Share of pairs in which the larger value is the chosen one (or the rejected one), ties half;
    its lower bound.
    """
    gaps = [feature(pair.chosen) - feature(pair.rejected) for pair in pairs]
    told = sum(gap != 0 for gap in gaps)
    if len(gaps) < ENOUGH or told < TELLING:
        return None
    share = (sum(gap > 0 for gap in gaps) + 0.5 * (len(gaps) - told)) / len(gaps)
    side, share = ("chosen", share) if share >= 0.5 else ("rejected", 1 - share)
    return {"side": side, "share": share, "low": _wilson_low(share, len(gaps))}


def _wilson_low(share: float, n: int, z: float = 1.96) -> float:
    """Lower end of Wilson's 95 % interval for a share of n."""
    middle, spread = (
        share + z * z / (2 * n),
        z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)),
    )
    return (middle - spread) / (1 + z * z / n)


def _scores(pairs: Sequence[Pair]) -> Finding | None:
    """Do the scores that came with the pairs agree with the preference? None where there are
    none.
    """
    gaps = [gap for pair in pairs if (gap := _score_gap(pair)) is not None]
    if not gaps:
        return None
    against, tied = (
        sum(gap < 0 for gap in gaps) / len(gaps),
        sum(gap == 0 for gap in gaps) / len(gaps),
    )
    says = (
        f"of {len(gaps):,} pairs with scores, {against:.1%} score the rejected answer higher and"
        f" {tied:.1%} are tied"
    )
    evidence = {"against": against, "tied": tied, "pairs": len(gaps)}
    return _finding(
        "data.scores",
        against > AGAINST or tied > TIED,
        says,
        evidence,
        "drop these pairs, or swap their sides",
    )


def _score_gap(pair: Pair) -> float | None:
    for good, bad in SCORES:
        values = (pair.extra.get(good), pair.extra.get(bad))
        gap = figure(values[0]) - figure(values[1])
        if not math.isnan(gap):
            return gap
    return None


def figure(value: object) -> float:
    """A finite number of a column beside the texts, also as text, as a CSV file has it;
    else NaN.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return math.nan
    try:
        found = float(value) if not isinstance(value, str) or len(value) <= 40 else math.nan
    except (ValueError, OverflowError):
        return math.nan
    return found if math.isfinite(found) else math.nan
