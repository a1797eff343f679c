"""The rows as tokens of a model: the checks of `--dry-run` over every row, the lengths, and the
cost of a limit.

Rows go through in blocks and only their lengths stay, so that memory does not grow with the file's
texts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from accord.auditing.checks.diversity import LIMITS, QUANTILES
from accord.auditing.findings import AuditFinding, Place, percent
from accord.auditing.scan import Scan
from accord.auditing.thresholds import limit
from accord.data.containers import Source
from accord.data.encoding_findings import findings
from accord.data.read import stream
from accord.data.templates import Template
from accord.data.trees import Encoding, Limits, encode
from accord.types import ROW_KINDS, Example, Tree

BLOCK = 512
UNLIMITED = Limits(10**9)
WHY = {
    "data.boundary": "The model would meet other tokens at inference than it learnt on.",
    "data.template_prefix": (
        "The prompt that is scored is not the prompt that the model gets at inference."
    ),
    "data.bos": "Two BOS tokens are a text that no model has seen.",
    "data.special_tokens": (
        "A special token in the text is read as a command of the template: turns end where none"
        " ends."
    ),
    "data.identical_tokens": (
        "The texts differ and the tokens do not: the pair's gradient is exactly zero."
    ),
    "data.end": "Where one side ends more often, the model learns to end, or not to.",
    "data.template": "The model must see at training what it sees at inference.",
}


class _Counted(Sequence):
    """The first examples, and the number of all. Findings on an encoding need no more."""

    def __init__(self) -> None:
        self.first: list[Example] = []
        self.seen = 0

    def add(self, examples: list[Example]) -> None:
        self.first += examples[: max(0, 8 - len(self.first))]
        self.seen += len(examples)

    def __len__(self) -> int:
        return self.seen

    def __getitem__(self, index):
        return self.first[index]


@dataclass
class Tokens:
    """The account of all rows as tokens."""

    encoding: Encoding = field(default_factory=Encoding)
    # (prompt, completion, …) tokens of each tree
    lengths: list[tuple[int, ...]] = field(default_factory=list)

    @property
    def table(self) -> np.ndarray:
        """Return the tokens, [rows, 1 + S]."""
        return np.array(self.lengths, np.int64)


def tokenise(source: Source, scan: Scan, template: Template, say) -> Tokens:
    """Tokenise every row of the scan's kind."""
    out = Tokens()
    out.encoding.examples = counted = _Counted()
    examples = stream(source, naming=scan.naming)
    wanted = (example for example in examples if isinstance(example, ROW_KINDS[scan.kind]))
    for block in _blocks(wanted):
        part = encode(block, template, UNLIMITED)
        counted.add(block)
        out.encoding.account.add(part.account)
        out.lengths += [_sizes(tree) for tree in part.trees]
        if counted.seen % (8 * BLOCK) == 0:
            say(f"  tokens: {counted.seen:,} of {len(scan):,} rows")
    return out


def _blocks(examples: Iterator[Example]) -> Iterator[list[Example]]:
    while block := list(islice(examples, BLOCK)):
        yield block


def _sizes(tree: Tree) -> tuple[int, ...]:
    return len(tree.prompt), *map(len, tree.completions)


def token_findings(scan: Scan, tokens: Tokens, template: Template) -> list[AuditFinding]:
    """Build the audit's findings from the checks of `--dry-run` and from the lengths."""
    found = findings(tokens.encoding, template, limit("special_tokens"), 1.0)
    out = [_as_audit(each) for each in found if each.check != "data.length"]
    return [*out, _lengths(scan, tokens)] if tokens.lengths else out


def _as_audit(finding) -> AuditFinding:
    first = finding.evidence.get("first", [])
    places = tuple(
        Place(each["at"], each["detail"])
        for each in first
        if isinstance(each, dict) and "detail" in each
    )
    return AuditFinding(
        finding.check.replace("data.", "tokens."),
        finding.verdict,
        finding.says,
        finding.evidence,
        finding.remedy,
        title=finding.check.removeprefix("data.").replace("_", " ").capitalize(),
        why=WHY.get(finding.check, ""),
        harm=float(finding.evidence.get("share", 0.0)),
        places=places,
    )


def _lengths(scan: Scan, tokens: Tokens) -> AuditFinding:
    table = tokens.table
    names = ("prompt", "chosen", "rejected") if scan.paired else ("prompt", "completion")
    longest = table[:, 0] + table[:, 1:].max(1)
    lost = {
        str(most): {
            "rows": float((longest > most).mean()),
            "tokens": float(np.maximum(0, longest - most).sum() / longest.sum()),
        }
        for most in LIMITS
    }
    quantiles = {
        name: [int(v) for v in np.quantile(table[:, at], QUANTILES)]
        for at, name in enumerate(names)
    }
    says = "median tokens: " + ", ".join(
        f"{name} {values[2]:,}" for name, values in quantiles.items()
    )
    says += "; rows over a limit of " + ", ".join(
        f"{most}: {percent(each['rows'])}" for most, each in lost.items()
    )
    default = lost[str(LIMITS[1])]["rows"]
    return AuditFinding(
        "tokens.lengths",
        # a note: long texts are sound, and the command names the limit that they need
        "note" if default > limit("too_long") else "ok",
        says,
        {"quantiles": list(QUANTILES), "tokens": quantiles, "over_limit": lost},
        "raise the limit, or drop the longest rows" if default > limit("too_long") else "",
        title="Lengths in tokens",
        why=(
            f"Rows over data.max_tokens are left out; from {percent(limit('too_long'))} on,"
            " training refuses."
        ),
        command=f"--set data.max_tokens={_enough(longest)}" if default > limit("too_long") else "",
        harm=default,
    )


def _enough(longest: np.ndarray) -> int:
    """Return the smallest power of two that loses less than the allowed share."""
    return int(2 ** np.ceil(np.log2(max(512, np.quantile(longest, 1 - limit("too_long"))))))
