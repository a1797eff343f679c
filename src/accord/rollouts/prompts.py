"""The prompts of a run that learns from its own answers; they take the place of rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from accord.config.schema import Config
from accord.data.columns import other_columns
from accord.data.ledger import Ledger
from accord.data.naming import Naming
from accord.data.prompts import LEAK, Question, read_prompts
from accord.data.rows import reading_record
from accord.data.sample_prompts import PromptRow
from accord.data.templates import Template
from accord.data.token_digest import prompts_digest
from accord.errors import plural
from accord.runs.display import Display
from accord.types import Finding, Tree


@dataclass(frozen=True)
class PromptFile:
    """A file of prompts: its path, its digest and its ledger."""

    path: str
    digest: str
    ledger: Ledger


@dataclass
class PromptSet:
    """The prompts of a file, as tokens, and the other columns of their rows."""

    dataset: PromptFile
    asked: PromptRow
    columns: Mapping[int, dict]  # by line
    of_tree: Callable[[int], int] = int  # number of the prompt that a tree's row answers

    def __len__(self) -> int:
        return len(self.asked.ids)

    @property
    def trees(self) -> list[tuple[int, ...]]:
        """Return the prompts' tokens; trees are made of them as the policy answers."""
        return self.asked.ids

    def longest(self, count: int) -> list[tuple[int, ...]]:
        """Return the tokens of so many of the longest prompts."""
        return sorted(self.trees, key=len)[-count:]

    def question(self, prompt: int) -> Question:
        return self.asked.questions[prompt]

    def row(self, prompt: int) -> dict:
        """Return the other columns of a prompt's row."""
        return self.columns.get(self.question(prompt).origin.line, {})

    def origin(self, tree: Tree) -> str:
        """Return the place of the prompt that a tree answers, as file:line."""
        return str(self.question(self.of_tree(tree.row)).origin)

    def record(self) -> dict:
        """Return the record of the prompts for data.json."""
        return {
            "path": self.dataset.path,
            "sha256": self.dataset.digest,
            "formats": {"prompts": len(self)},
            **reading_record(self.dataset.ledger),
            "tokens": {
                "trees": len(self),
                "unique_tokens": sum(map(len, self.trees)),
                "sha256": prompts_digest(self.trees),
            },
            "left_out": dict(self.asked.left_out),
        }


def load_prompts(
    path: str, config: Config, template: Template, limit: int | None, display: Display
) -> PromptSet:
    """Load the prompts of a file that the model can answer.

    Raises:
      DataError: the file has no prompt, or none that fits.
    """
    display.phase("data", f"reading prompts of {path}")
    lenient = path != config.data.train
    naming = Naming.of(config.data.columns, config.data.ignore_columns, lenient)
    read = read_prompts(path, naming)
    for line in read.ledger.reading_lines():
        display.line(line)
    room = min(config.data.max_tokens, limit or 10**9)
    asked = PromptRow.of(
        read.prompts, template, room, config.rollout_settings.max_new_tokens, config.model.name
    )
    columns = other_columns(path, read) if path != "-" else {}
    return PromptSet(PromptFile(path, read.digest, read.ledger), asked, columns)


def prompt_findings(config: Config, train: PromptSet, held_out: PromptSet | None) -> list[Finding]:
    """Report what became of the files' rows, and whether held-out prompts are trained on."""
    found = [_account(train, "training prompts", config.data.max_rejected)]
    if held_out is not None:
        found += [
            _account(held_out, "held-out prompts", config.data.max_rejected),
            _leak(config, train, held_out),
        ]
    return found


def _account(side: PromptSet, name: str, most: float) -> Finding:
    ledger, left = side.dataset.ledger, side.asked.left_out.total()
    says = (
        f"{name}: {plural(ledger.rows, 'row')} with {len(side) + left:,} different prompts ="
        f" {len(side):,}"
        f" used + {left:,} left out"
    )
    if left:
        says += (
            " ("
            + "; ".join(
                f"{count:,}: {reason}" for reason, count in side.asked.left_out.most_common(3)
            )
            + ")"
        )
    if ledger.rejected:
        says += f"; {plural(len(ledger.rejected), 'row')} without a prompt"
    # A prompt that the template changes, or that holds a special token, is as lost as a broken row.
    share = max(ledger.rejected_share, side.asked.unfit / max(1, len(side) + left))
    refused = share > most
    remedy = (
        f"mend them, or accept the loss: --set data.max_rejected={share:.3g}" if refused else ""
    )
    first = [{"at": str(r.origin), "detail": f"{r.reason}: {r.says}"} for r in ledger.rejected[:3]]
    verdict = "refused" if refused else "note" if left or ledger.rejected else "ok"
    return Finding(
        "data.ledger",
        verdict,
        says,
        {"first": first, "left_out": dict(side.asked.left_out)},
        remedy,
    )


def _leak(config: Config, train: PromptSet, held_out: PromptSet) -> Finding:
    trained = set(train.trees)
    leaked = [number for number, ids in enumerate(held_out.trees) if ids in trained]
    share = len(leaked) / len(held_out)
    says = f"{len(leaked):,} of {len(held_out):,} held-out prompts are trained on"
    evidence = {
        "share": share,
        "first": [str(held_out.question(number).origin) for number in leaked[:3]],
    }
    if share > LEAK and "shared_prompts" not in config.allow:
        return Finding(
            "data.leak",
            "refused",
            says,
            evidence,
            "split by prompt, or accept it: --allow shared_prompts",
        )
    return Finding("data.leak", "warning" if leaked else "ok", says, evidence)
