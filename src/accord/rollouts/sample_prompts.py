"""Answers to fixed prompts while training: before the first update, every so many steps, after the
last.

Each answer has a generator of its own (accord/sampling/local.py), so that training's randomness is
not advanced.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from accord.config.schema import Config
from accord.data.rows import Rows
from accord.data.templates import Template
from accord.evaluate.probe import KLReference, distribution_metrics, sample_metrics
from accord.rollouts.prompts import PromptSet
from accord.sampling.local import LocalSampler
from accord.sampling.sampler import Prompt, Sample
from accord.types import Tree, Turn, UsageError


@dataclass(frozen=True)
class SamplePrompt:
    """One prompt to sample: its tokens, its text for people, and the columns that a reward may
    use.
    """

    ids: Prompt
    text: str
    turns: tuple[Turn, ...]
    row: Mapping[str, object] = field(default_factory=dict)  # the other columns of its row


def choose_sample_prompts(
    config: Config, template: Template, held_out: Rows | PromptSet | None, limit: int | None
) -> list[SamplePrompt]:
    """Choose the prompts of a run, each once; none if there are neither held-out rows nor a file of
    prompts.

    Args:
      limit: positions of the model; a prompt whose answer would not fit is left out.

    Raises:
      UsageError: the file of prompts is missing or empty.
    """
    settings = config.monitor
    if settings.samples == 0:
        return []
    found = _from_file(settings.prompts, template) if settings.prompts else _from_rows(held_out)
    room = (limit or 10**9) - settings.sample_tokens
    return [asked for asked in found if len(asked.ids) <= room][: settings.samples]


def _from_file(path: str, template: Template) -> list[SamplePrompt]:
    file = Path(path).expanduser()
    lines = (
        [line for line in file.read_text(encoding="utf-8").split("\n") if line.strip()]
        if file.is_file()
        else []
    )
    if not lines:
        raise UsageError(
            f"monitor.prompts = {path!r}: expected a text file with one prompt a line."
        )
    questions = {line: (Turn("user", line),) for line in lines}
    return [
        SamplePrompt(tuple(template.prompt_ids(turns)), line, turns)
        for line, turns in questions.items()
    ]


def _from_rows(rows: Rows | PromptSet | None) -> list[SamplePrompt]:
    """Take the first row of each held-out prompt, in the file's order."""
    if isinstance(rows, PromptSet):
        return [
            _prompt(ids, rows.question(number).turns, rows.row(number))
            for number, ids in enumerate(rows.trees)
        ]
    if rows is None:
        return []
    first: dict[Prompt, Tree] = {}
    for tree in rows.trees:
        first.setdefault(tree.prompt, tree)
    examples = {ids: rows.encoding.examples[tree.row] for ids, tree in first.items()}
    return [_prompt(ids, example.prompt, example.extra) for ids, example in examples.items()]


def _prompt(ids: Prompt, turns: Sequence[Turn], row: Mapping[str, object]) -> SamplePrompt:
    """Show a single question as it stands, and a conversation with its roles."""
    text = (
        turns[0].content
        if len(turns) == 1
        else "\n".join(f"{turn.role}: {turn.content}" for turn in turns)
    )
    return SamplePrompt(ids, text, tuple(turns), row)


def draw_samples(
    model,
    asked: Sequence[SamplePrompt],
    start: KLReference | None,
    settings,
    seed: int,
    before: list[int] | None,
):
    """Sample every prompt at temperature 1.

    Args:
      before: tokens of the answers at step 0, None at step 0.

    Returns:
      the samples, and their figures under diag/samples_.
    """
    prompts = [one.ids for one in asked]
    samples = LocalSampler.of(model).sample(
        prompts, max_new_tokens=settings.sample_tokens, seed=seed
    )
    found = sample_metrics(samples, before) | distribution_metrics(model, prompts, samples, start)
    return samples, {f"diag/samples_{name}": value for name, value in found.items()}


def sample_record(
    step: int, number: int, asked: SamplePrompt, answer: Sample, taken: int | None
) -> dict:
    """Make a line of samples.jsonl; it has `weights_of` if the run went back to an earlier step's
    weights.
    """
    return {
        "step": step,
        "prompt": number,
        "asked": asked.text,
        "text": answer.text,
        "tokens": len(answer.tokens),
        "ended": answer.ended,
        "logprob": answer.logprob,
        **({} if taken is None else {"weights_of": taken}),
    }
