"""`accord generate`: K answers to each prompt of a file, with the data that reproduces them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

from accord.assess.opened import OpenModel, open_model
from accord.assess.soundness import growth, language
from accord.data.convert import prompt_columns
from accord.data.naming import PLAIN, Naming
from accord.data.prompts import Question, Questions, read_prompts
from accord.data.sample_prompts import PromptRow
from accord.data.tokenizer_digest import tokenizer_digest
from accord.data.write import check_rows_file, new_file
from accord.errors import plural, printable
from accord.models import fingerprint
from accord.models.model_checks import halved
from accord.sampling.local import LocalSampler
from accord.sampling.sampler import Sample
from accord.types import Origin, Turn, UsageError

PIECE = 64  # prompts answered between two lines of progress
Say = Callable[[str], None]


@dataclass(frozen=True)
class Sampling:
    """Options for drawing answers."""

    k: int = 8
    max_new_tokens: int = 256
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int = 0

    def options(self) -> dict:
        """Return the options of `Sampler.sample`."""
        return {name: value for name, value in asdict(self).items() if name != "k"}


def generate(
    name: str,
    *,
    prompts: str | None,
    prompt: str | None,
    sampling: Sampling,
    output: str | None,
    limit: int | None,
    dtype: str | None,
    template: str | None,
    say: Say,
    naming: Naming = PLAIN,
) -> tuple[dict, list[dict]]:
    """Answer prompts. Return the figures, and the rows if they are not written to a file.

    Raises:
      AccordError: a bad option, an unreadable file, no model there.
    """
    if sampling.k < 1:
        raise UsageError(f"--k {sampling.k}: at least one answer to each prompt.")
    if output is not None:
        check_rows_file(output)
    read = _questions(prompts, prompt, naming)
    opened = open_model(name, dtype=dtype, template=template)
    asked = PromptRow.of(
        read.prompts[:limit], opened.template, opened.limit, sampling.max_new_tokens, opened.name
    )
    opened.learn(language(opened.model, halved(asked.ids)))
    opened.warnings += growth(opened.model, asked.ids, sampling.max_new_tokens)
    warned = (f"! {each}" for each in opened.warnings)
    for line in (*_account(read, asked, limit), *warned, *(f"  {each}" for each in opened.notes)):
        say(line)
    made_by = provenance(opened, sampling, read)
    figures = Figures()
    rows = _rows(opened, asked, sampling, made_by, figures, say)
    if output is None:
        kept = list(rows)
    else:
        kept = []
        with new_file(output) as file:
            for row in rows:
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
    return {
        **figures.as_dict(),
        "left_out": dict(asked.left_out),
        "output": output,
        "provenance": made_by,
        "warnings": list(opened.warnings),
    }, kept


@dataclass
class Figures:
    """Counts of prompts, answers, tokens and seconds."""

    prompts: int = 0
    answers: int = 0
    tokens: int = 0
    ended: int = 0
    seconds: float = 0.0

    def add(self, prompts: int, answers: Sequence[Sample], seconds: float) -> None:
        self.prompts += prompts
        self.answers += len(answers)
        self.tokens += sum(len(answer.tokens) for answer in answers)
        self.ended += sum(answer.ended for answer in answers)
        self.seconds += seconds

    def as_dict(self) -> dict:
        return asdict(self)

    def says(self) -> str:
        return (
            f"{plural(self.answers, 'answer')} to {plural(self.prompts, 'prompt')},"
            f" {plural(self.tokens, 'token')},"
            f" {self.tokens / max(self.seconds, 1e-9):,.0f} a second;"
            f" {self.ended / max(1, self.answers):.1%} ended by the model"
        )


def _rows(
    opened: OpenModel,
    asked: PromptRow,
    sampling: Sampling,
    provenance: dict,
    figures: Figures,
    say: Say,
) -> Iterator[dict]:
    """Yield one row per prompt, in the file's order, piece by piece."""
    sampler = LocalSampler.of(opened.model)
    for start in range(0, len(asked.ids), PIECE):
        questions = asked.questions[start : start + PIECE]
        repeated = [ids for ids in asked.ids[start : start + PIECE] for _ in range(sampling.k)]
        began = time.perf_counter()
        answers = sampler.sample(repeated, **sampling.options(), first_row=start * sampling.k)
        figures.add(len(questions), answers, time.perf_counter() - began)
        for i, question in enumerate(questions):
            yield answer_row(question, answers[i * sampling.k : (i + 1) * sampling.k], provenance)
        say(figures.says())


def answer_row(question: Question, answers: Sequence[Sample], provenance: dict) -> dict:
    """Build one line of the file: a prompt that `--prompts` can read again, and its K answers in
    columns of K.
    """
    return {
        **prompt_columns(question.turns, question.inputs),
        "completions": [answer.text for answer in answers],
        "ended": [answer.ended for answer in answers],
        "logprob": [answer.logprob for answer in answers],
        "tokens": [len(answer.tokens) for answer in answers],
        "at": str(question.origin),
        "provenance": provenance,
    }


def answer_lines(row: Mapping) -> Iterator[str]:
    """Yield a prompt and its answers for a person."""
    asked = row["prompt"] if isinstance(row["prompt"], str) else row["prompt"][-1]["content"]
    yield f"> {printable(asked, keep=chr(10))}"
    for text, ended, logprob in zip(row["completions"], row["ended"], row["logprob"], strict=True):
        yield f"  {printable(text.strip())}{'' if ended else ' …'}   ({logprob:.1f} nats)"


def _questions(
    prompts: str | None, prompt: str | None, naming: Naming = PLAIN
) -> Questions | _Single:
    if prompts is not None and prompt is None:
        return read_prompts(prompts, naming)
    if naming != PLAIN:
        raise UsageError("--columns and --ignore-columns are about the columns of --prompts FILE.")
    if prompt is not None and prompts is not None:
        raise UsageError("--prompts and --prompt are both given. Leave one of the two out.")
    if prompt is None:
        raise UsageError("Give either --prompts FILE or --prompt TEXT.")
    if not prompt.strip():
        raise UsageError("--prompt is empty.")
    return _Single([Question((Turn("user", prompt),), Origin("--prompt", 1))])


@dataclass(frozen=True)
class _Single:
    """The single prompt of the command line, in place of a file."""

    prompts: list[Question]
    digest: str | None = None


def _account(read: Questions | _Single, asked: PromptRow, limit: int | None) -> list[str]:
    lines = read.says().splitlines() if isinstance(read, Questions) else []
    if limit is not None and limit < len(read.prompts):
        lines.append(f"  the first {limit:,} are answered")
    return lines + [f"  {count:,} left out: {reason}" for reason, count in asked.left_out.items()]


def provenance(opened: OpenModel, sampling: Sampling, read: Questions | _Single) -> dict:
    """Record everything that the answers depend on. It holds no path, because a file of answers is
    made to be shared.
    """
    return {
        "model": fingerprint.weights(opened.model.network),
        "weights": opened.weights,
        "tokenizer": tokenizer_digest(opened.model.tokenizer),
        "dtype": str(opened.model.dtype).removeprefix("torch."),
        "prompts": read.digest,
        **asdict(sampling),
    }
