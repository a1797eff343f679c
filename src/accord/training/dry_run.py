"""The output of `accord train --dry-run`: two rows as the model will see them, and every check's
result.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TextIO

from accord.config.schema import PARTS, Config
from accord.errors import plural, printable
from accord.runs.display import MARKS, Display
from accord.runs.folder import vars_of
from accord.training.prepared import PreparedRun
from accord.types import Tree

OPEN, CLOSE = "⟦", "⟧"  # around what is scored
SHOWN = 2  # rows


class PartsNamed(Display):
    """The display of a dry run: both parts of a file that it cuts lie in a folder that is gone
    afterwards, and are called by the file's name.
    """

    def __init__(self, outer: Display, config: Config) -> None:
        super().__init__(outer.stream)
        self.outer, self.config = outer, config

    def line(self, text: str) -> None:
        self.outer.line(parts_named(text, self.config))

    def phase(self, name: str, text: str) -> None:
        self.outer.phase(name, parts_named(text, self.config))

    def progress(self, name: str, done: int, total: int) -> None:
        self.outer.progress(name, done, total)


def parts_named(text: str, config: Config) -> str:
    """Return a text with both parts of the training file under its own name."""
    if config.data.hold_out is None or config.held_out_file is None:
        return text
    text = text.replace(config.train_file, f"{config.data.train} (its training part)")
    text = text.replace(config.held_out_file, f"{config.data.train} (its held-out part)")
    return text.replace(f", in {config.run_folder / PARTS}", "")


def show(ready: PreparedRun, stream: TextIO) -> dict:
    """Print the dry run for a person; return the same for a machine."""
    print(parts_named("\n".join(lines(ready)), ready.config), file=stream)
    return record(ready)


def lines(ready: PreparedRun) -> Iterator[str]:
    """Yield the dry run for a person."""
    objective = ready.learner.objective
    for tree in ready.source.shown(SHOWN):
        yield f"\n{ready.source.origin(tree)}  ({_sizes(tree)})"
        yield from _marked(ready, tree)
    yield (
        f"\n{OPEN}…{CLOSE} are answer tokens: scored, and trained on. All before them is prompt.\n"
    )
    for finding in ready.findings:
        yield f"{MARKS[finding.verdict]} {finding.check:<22} {finding.says}"
        if finding.remedy:
            yield f"    {finding.remedy}"
    yield f"\nobjective: {objective.name}; {objective.convention}"
    yield (
        f"would make {plural(ready.steps, 'update')} of {ready.order.batch_size} {objective.rows}, "
        f"peak learning rate {ready.peak:g}; nothing was trained or written"
    )


def record(ready: PreparedRun) -> dict:
    """Return the dry run for a machine."""
    objective = ready.learner.objective
    return {
        "objective": {
            "name": objective.name,
            "options": objective.options,
            "convention": objective.convention,
        },
        "reference": ready.reference_kind,
        "steps": ready.steps,
        "learning_rate": ready.peak,
        "rows": ready.source.accounts()["train"],
        "checks": [vars_of(finding) for finding in ready.findings],
        "shown": [_as_ids(ready, tree) for tree in ready.source.shown(SHOWN)],
    }


def _marked(ready: PreparedRun, tree: Tree) -> list[str]:
    def text(ids: Sequence[int]) -> str:
        decoded = ready.model.tokenizer.decode(list(ids))
        assert isinstance(decoded, str), "one sequence of tokens is one text"
        # dataset text must not drive the terminal
        return printable(decoded.replace("\n", "↵").replace("\t", "⇥"))

    paired = ready.learner.kind == "pairs"
    sides = ("chosen", "rejected") if paired else ("answer",) * len(tree.completions)
    return [f"  prompt    {text(tree.prompt)}"] + [
        f"  {side:<9} {OPEN}{text(completion)}{CLOSE}"
        for side, completion in zip(sides, tree.completions, strict=True)
    ]


def _sizes(tree: Tree) -> str:
    return (
        f"{len(tree.prompt)} prompt tokens, {' and '.join(str(len(c)) for c in tree.completions)}"
        " answer tokens"
    )


def _as_ids(ready: PreparedRun, tree: Tree) -> dict:
    return {
        "at": ready.source.origin(tree),
        "prompt": list(tree.prompt),
        "completions": [list(c) for c in tree.completions],
    }
