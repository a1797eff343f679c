"""`accord sample | score | pair`: prompts → K answers → rewards → pairs, each a file that the next
command reads.

`sample` and `score` write line by line, and a killed command resumes after its last line. Every
line holds the settings that its answers depend on. Row i draws from (seed, i), so an answer does
not depend on when it is drawn.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial, reduce
from itertools import islice
from pathlib import Path

from accord.assess.answer_endings import ended_columns, ended_of, endings
from accord.assess.answer_rows import asked_of, digest_of, is_reward, rows_of, texts_of
from accord.assess.generation import Sampling, answer_row, provenance
from accord.assess.one_writer import SharedFile
from accord.assess.opened import OpenModel, open_model
from accord.assess.soundness import growth, language
from accord.data.columns import other_columns
from accord.data.convert import INPUT_COLUMNS
from accord.data.naming import PLAIN, Naming
from accord.data.prompts import Questions, read_prompts
from accord.data.sample_prompts import PromptRow
from accord.data.write import new_file, write_row
from accord.distributed.world import ALONE, World
from accord.errors import plural, printable
from accord.models.model_checks import halved
from accord.rewards.load import load_rewards
from accord.rewards.reward import Rewards
from accord.rollouts.pairing import Pairing
from accord.runs.judging_costs import add_sessions
from accord.sampling.local import LocalSampler
from accord.sampling.sampler import Prompt, Sample
from accord.types import DataError, UsageError

PIECE = 8  # prompts between two writes: what a kill may cost
Say = Callable[[str], None]
# from N prompts and N answers to columns of N values
Beside = Callable[[Sequence[Prompt], Sequence[Sample]], Mapping[str, Sequence]]


def sample_file(
    name: str,
    prompts: str,
    output: str,
    sampling: Sampling,
    *,
    limit: int | None,
    dtype: str | None,
    template: str | None,
    say: Say,
    naming: Naming = PLAIN,
) -> dict:
    """Draw K answers to each prompt of a file; write one line per prompt.

    Raises:
      AccordError: a bad option, an unreadable file, no model there, or a file begun with other
        settings.
    """
    if sampling.k < 2:
        raise UsageError(
            f"--k {sampling.k}: two answers to a prompt at least, or there is nothing to compare."
        )
    read = read_prompts(prompts, naming)
    for line in read.ledger.lines():
        say(line)
    opened = open_model(name, dtype=dtype, template=template)
    return sample_opened(opened, read, prompts, output, sampling, limit=limit, say=say)


def sample_opened(
    opened: OpenModel,
    read: Questions,
    prompts: str,
    output: str,
    sampling: Sampling,
    *,
    say: Say,
    limit: int | None = None,
    about: Mapping[str, object] | None = None,
    beside: Beside | None = None,
    world: World = ALONE,
    poll: Callable[[], None] = lambda: None,
) -> dict:
    """Draw K answers of an open model to each prompt; write one line per prompt. Several processes
    deal the pieces among them, so that each piece is drawn as one process draws it.

    Args:
      read: the prompts, read from the path `prompts`.
      about: goes into every line's provenance, beside the settings that the answers depend on.
      beside: further columns of K, computed while the model is open.
      poll: called before each piece; it may raise, which ends the work of all processes.

    Raises:
      DataError: no prompt can be answered. UsageError: a file begun with other settings.
    """
    asked = PromptRow.of(
        read.prompts[:limit], opened.template, opened.limit, sampling.max_new_tokens, opened.name
    )
    opened.learn(language(opened.model, halved(asked.ids)))
    opened.warnings += growth(opened.model, asked.ids, sampling.max_new_tokens)
    for line in (*(f"! {each}" for each in opened.warnings), *(f"  {n}" for n in opened.notes)):
        say(line)
    known = {**provenance(opened, sampling, read), **(about or {})}
    file = SharedFile.begin(world, output, known, PIECE)
    columns = other_columns(prompts, read)
    begun, k = file.done, sampling.k
    sampler = LocalSampler.of(opened.model)
    if begun:
        say(f"{file.part}: goes on behind {begun:,} prompts that were answered before")

    def answered(start: int) -> Iterator[dict]:
        questions = asked.questions[start : start + PIECE]
        repeated = [ids for ids in asked.ids[start : start + PIECE] for _ in range(k)]
        answers = sampler.sample(repeated, **sampling.options(), first_row=start * k)
        more = beside(repeated, answers) if beside is not None else {}
        for i, question in enumerate(questions):
            own = slice(i * k, (i + 1) * k)
            further = {name: list(values[own]) for name, values in more.items()}
            yield {
                **answer_row(question, answers[own], {}),
                **further,
                "row": columns.get(question.origin.line, {}),
            }

    def drawn(starts: range, own: range) -> list[dict]:
        poll()
        return [row for i in own for row in answered(starts[i])]

    pieces = range(begun, len(asked.ids), PIECE)
    for at in range(0, len(pieces), world.size):
        starts = pieces[at : at + world.size]
        file.add(world.share_out(len(starts), partial(drawn, starts)))
        say(f"{file.done:,} of {len(asked.ids):,} prompts answered")
    file.finish()
    left_out = dict(asked.left_out)
    return {
        "output": output,
        "prompts": file.done,
        "answers": file.done * k,
        "resumed": begun,
        "left_out": left_out,
        "warnings": list(opened.warnings),
    }


# ---------------------------------------------------------------- rewards


def score_file(
    path: str,
    output: str,
    specs: Sequence[str],
    options: Mapping[str, Mapping[str, object]],
    say: Say,
    naming: Naming = PLAIN,
    world: World = ALONE,
    poll: Callable[[], None] = lambda: None,
) -> dict:
    """Write the reward of every answer of a file of answers, in a column `rewards`. A missing
    reward is null, with the reason. Several processes deal the lines among them; `poll` is called
    before each, and may end the work of all.

    Raises:
      AccordError: no such reward or file. DataError: no answer has a reward; nothing is written.
    """
    reward = load_rewards(specs, options)
    for mark, note in reward.notes:
        say(f"{mark} {note}")
    file = SharedFile.begin(
        world,
        output,
        {
            "answers": digest_of(path),
            "rewards": list(specs),
            "options": json.loads(json.dumps(dict(options))),
        },
    )
    begun, answers = file.done, 0

    def scored(lines: Sequence[tuple[int, dict]], own: range) -> list[dict]:
        poll()
        out = []
        for line, row in (lines[i] for i in own):
            texts = texts_of(row, path, line)
            turns, columns = asked_of(row, path, line)
            found = reward([turns] * len(texts), texts, [columns] * len(texts))
            out.append(_scored(row, found))
        return out

    rows = enumerate(rows_of(path, naming))
    while some := list(islice(rows, world.size)):
        answers += sum(len(texts_of(row, path, line)) for _, (line, row) in some)
        fresh = [asked for number, asked in some if number >= begun]
        if fresh:
            file.add(world.share_out(len(fresh), partial(scored, fresh)))
            if file.done % 100 < len(fresh):
                say(f"{plural(file.done, 'prompt')} scored")
    accounts = reduce(add_sessions, world.gather(reward.account()))
    return world.on_first(
        lambda: {
            "output": output,
            **_finished(file, answers, accounts, say),
            "reward_models": [note for _, note in reward.notes],
            "resumed": begun,
        }
    )


def _scored(row: dict, found: Rewards) -> dict:
    """Make the line of a prompt's answers with their rewards."""
    values = [None if math.isnan(value) else value for value in found.values.tolist()]
    parts = {
        name: [None if math.isnan(v) else v for v in part.tolist()]
        for name, part in found.parts.items()
    }
    failures = {str(i): reason for i, reason in found.failures.items()}
    sampled = {"sampled": row["provenance"]} if "provenance" in row else {}
    return {**row, "rewards": values, "reward_parts": parts, "reward_failures": failures, **sampled}


def _finished(file: SharedFile, answers: int, accounts: Mapping, say: Say) -> dict:
    """Give a scored file its name, and say what came of it.

    Raises:
      DataError: no answer has a reward; the file is gone.
    """
    outcome = _Outcome.of(file.part) if file.done else _Outcome()
    if answers and not outcome.rewarded:
        file.part.unlink()
        raise DataError(outcome.refusal(answers, accounts))
    file.finish()
    warnings = outcome.warnings(answers)
    for told in (*(f"! {each}" for each in warnings), *_told(outcome.reasons, accounts)):
        say(told)
    return {
        "prompts": file.done,
        "answers": answers,
        "rewarded": outcome.rewarded,
        "missing": outcome.missing,
        "reasons": dict(outcome.reasons),
        "accounts": accounts,
        "warnings": warnings,
    }


@dataclass
class _Outcome:
    """The rewards of a scored file. All lines count, whichever process wrote them."""

    reasons: Counter[str] = field(default_factory=Counter)
    rewarded: int = 0
    least: float = math.inf
    most: float = -math.inf
    compared: int = 0  # prompts with two rewards or more
    apart: int = 0  # those of them whose rewards differ

    @classmethod
    def of(cls, path: Path) -> _Outcome:
        """Count the lines of a file that grows, under the name that it has until it is whole."""
        found = cls()
        with path.open(encoding="utf-8") as lines:
            for row in map(json.loads, lines):
                found.reasons.update(row["reward_failures"].values())
                values = [value for value in row["rewards"] if value is not None]
                found.rewarded += len(values)
                found.least = min([found.least, *values])
                found.most = max([found.most, *values])
                found.compared += len(values) > 1
                found.apart += len(set(values)) > 1
        return found

    @property
    def missing(self) -> int:
        return sum(self.reasons.values())

    def refusal(self, answers: int, accounts: Mapping[str, Mapping]) -> str:
        """Say that no answer has a reward, why, and what to do."""
        why = "\n".join(line for line in _told(self.reasons, accounts))
        return (
            f"none of {answers:,} answers has a reward, so there is nothing to rank:\n{why}\n"
            "No file was written. Mend the reward, or the columns that it reads (`row` of each"
            " line), and give the same command again."
        )

    def warnings(self, answers: int) -> list[str]:
        """Say what the rewards do not tell: those that are missing, and those that are equal."""
        said = []
        if self.missing:
            reason, _ = self.reasons.most_common(1)[0]
            said.append(
                f"{self.missing:,} of {answers:,} answers have no reward, and are in no pair; most"
                f" often: {reason}"
            )
        if self.rewarded > 1 and self.least == self.most:
            said.append(
                f"all {self.rewarded:,} rewards are {self.least:g}: they rank no answer above"
                " another, and accord pair makes no pair of them"
            )
        elif self.compared and not self.apart:
            said.append(
                f"the answers to each of {self.compared:,} prompts have equal rewards: accord pair"
                " makes no pair of them"
            )
        return said


def _told(reasons: Counter[str], accounts: Mapping[str, Mapping]) -> Iterator[str]:
    """Say why rewards are missing, what the rewards themselves said of it, and what they cost."""
    for reason, count in reasons.most_common():
        yield f"  {count:,} without a reward: {reason}"
    for name, account in accounts.items():
        said = account.get("said", {})
        said = said if isinstance(said, Mapping) else {}
        yield from (f"  {name} ({reason}): {printable(str(w))}" for reason, w in said.items())
        rest = {key: value for key, value in account.items() if key != "said" or not said}
        if rest:
            yield f"  {name}: {json.dumps(rest, ensure_ascii=False)}"


# ---------------------------------------------------------------- pairs


def pair_file(
    path: str,
    output: str,
    pairing: Pairing,
    say: Say,
    naming: Naming = PLAIN,
    *,
    may_be_empty: bool = False,
) -> dict:
    """Write pairs that `accord train` reads, from scored answers. Prompts in = prompts with pairs +
    prompts without, by reason.

    Raises:
      AccordError: no scored answers there. DataError: no pair comes of them, unless a file without
        rows may be written.
    """
    reasons: Counter[str] = Counter()
    prompts = pairs = unusable = cut = unknown = 0
    with new_file(output) as file:
        for number, (line, row) in enumerate(rows_of(path, naming)):
            prompts += 1
            texts, rewards = texts_of(row, path, line), row.get("rewards")
            if (
                not isinstance(rewards, list)
                or len(rewards) != len(texts)
                or not all(map(is_reward, rewards))
            ):
                raise DataError(
                    f"{path}:{line}: no `rewards`, a number or null for each answer. Score the"
                    " answers first: accord score."
                )
            blank = [_unusable(text) for text in texts]
            unusable += sum(blank)
            rewards = [None if bad else reward for bad, reward in zip(blank, rewards, strict=True)]
            found, why = pairing.pairs(rewards, texts, number)
            reasons.update([why] if why else [])
            ended = ended_of(row, texts, path, line)
            for good, bad in found:
                write_row(file, _pair(row, texts, rewards, good, bad, pairing))
                cut += (ended[good] is False) + (ended[bad] is False)
                unknown += ended[good] is None
            pairs += len(found)
        if not prompts:
            raise DataError(f"{path}: no line in it.")
        if not pairs and not may_be_empty:
            raise DataError(_no_pairs(path, prompts, reasons, unusable))
    say(
        f"{plural(prompts, 'prompt')} = {prompts - sum(reasons.values()):,} with pairs +"
        f" {sum(reasons.values()):,} without; {plural(pairs, 'pair')}"
    )
    for reason, count in reasons.most_common():
        say(f"  {count:,}: {reason}")
    if unusable:
        say(
            f"  {plural(unusable, 'answer is', 'answers are')} in no pair: blank, or no text (NUL"
            " characters, half a"
            " surrogate pair)"
        )
    for told in endings(pairs, cut, unknown):
        say(told)
    return {
        "output": output,
        "prompts": prompts,
        "pairs": pairs,
        "without": dict(reasons),
        "unusable_answers": unusable,
        "cut_answers": cut,
        "answers_of_unknown_end": 2 * unknown,
    }


def _no_pairs(path: str, prompts: int, reasons: Counter[str], unusable: int) -> str:
    """Say that no pair comes of a file, why, and what to do."""
    why = "; ".join(f"{count:,} × {reason}" for reason, count in reasons.most_common())
    blank = f" {plural(unusable, 'answer is', 'answers are')} blank or no text." if unusable else ""
    return (
        f"{path}: no pair comes of {prompts:,} prompts ({why}).{blank}\nNo file was written. Draw"
        " more answers, or more different ones (accord sample --k 8 --temperature 1), score them by"
        " a reward that tells them apart, or take a smaller --margin."
    )


def _unusable(text: str) -> bool:
    """Tell whether training would refuse this answer, and so lose a pair with it."""
    return not text.strip() or "\0" in text or any("\ud800" <= c <= "\udfff" for c in text)


def _pair(
    row: Mapping,
    texts: Sequence[str],
    rewards: Sequence[float],
    good: int,
    bad: int,
    pairing: Pairing,
) -> dict:
    return {
        "prompt": row["prompt"],
        **{name: row[name] for name in INPUT_COLUMNS if name in row},
        "chosen": texts[good],
        "rejected": texts[bad],
        "chosen_score": rewards[good],
        "rejected_score": rewards[bad],
        **ended_columns(row, good, bad),
        "at": row.get("at"),
        "provenance": {
            "answers": [good, bad],
            "sampled": row.get("sampled"),
            "scored": row.get("provenance"),
            "paired": asdict(pairing),
        },
    }
