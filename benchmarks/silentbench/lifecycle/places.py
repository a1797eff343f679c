"""The steps of a model's life at which a fault is tried: what is done soundly before, and the
command that is to notice.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.silentbench.lifecycle.case import STEPS, Case
from benchmarks.silentbench.lifecycle.said import Step

Action = Callable[[Case], None]
WORTHY = "benchmarks.silentbench.lifecycle.rows:worthy"
# rows and updates enough that a model learns which answers are preferred
LEARNING = ("--steps", "40", "--learning-rate", "5e-3", "--batch-size", "16")


@dataclass(frozen=True)
class Place:
    """One step of the life. `setup` is done before the fault, or after it where the fault lies in
    the model or the data that everything begins with.
    """

    name: str
    setup: Action
    last: Action


def nothing(case: Case) -> None:
    """Leave the case as it is: the place's command is the first one."""


def trained(case: Case) -> None:
    """Train a run to its end."""
    _require(case.do(*case.train_words(case.folder / "run")))
    case.target = case.folder / "run"


def adapter(case: Case) -> None:
    """Train a run and write its adapter as a folder of its own, as a user would share it."""
    trained(case)
    if case.said[-1].code == 0:
        _require(case.do("export", case.target, "--output", case.folder / "adapter"))
    case.target = case.folder / "adapter"


def stopped(case: Case) -> None:
    """Train half of a run and stop it as a signal would."""
    from accord.training import loop

    update = loop.make_update

    def stopping(run):
        update(run)
        run.stop.signal = 15 if run.progress.step == STEPS // 2 + 1 else run.stop.signal

    loop.make_update = stopping
    try:
        step = case.do(*case.train_words(case.folder / "run"))
    finally:
        loop.make_update = update
    case.target = case.folder / "run"
    if step.code == 75:
        case.said[-1] = Step(step.words, 75, "\n".join(_unstopped(step.output)), step.crash)


def _unstopped(output: str) -> list[str]:
    """Leave out that a signal came: this is what the bench did, no alarm."""
    return [line for line in output.splitlines() if not line.startswith("stopped:")]


def compared(case: Case) -> None:
    """Do a comparison to its end."""
    compare(case)
    _require(case.said[-1])


def two_runs(case: Case) -> None:
    """Train a second run with another seed."""
    trained(case)
    case.held = case.second_held or case.held
    _require(case.do(*case.train_words(case.folder / "run2"), "--seed", "1"))


def rewarded(case: Case) -> None:
    """Train a reward model on rows enough to learn from, and draw the answers that it scores."""
    before = case.rows, case.held, case.words, case.settings
    case.rows, case.held, case.words = case.reward_rows, case.reward_held, list(LEARNING)
    case.settings = {"model.lora.targets": "all-linear"}
    step = case.do(*case.train_words(case.folder / "rm", "bradley_terry"))
    case.rows, case.held, case.words, case.settings = before
    case.target = case.folder / "rm-model"
    _require(step)
    _require(case.do("export", case.folder / "rm", "--merge", "--output", case.target))
    answers(case)


def answers(case: Case) -> None:
    """Draw answers of the base model."""
    prompts = case.write("prompts.jsonl", [{"prompt": row["prompt"]} for row in case.rows[:16]])
    words = ["--k", "3", "--max-new-tokens", "64", "--output", case.folder / "answers.jsonl"]
    _require(case.do("sample", case.model, "--prompts", prompts, *words))


def _require(step: Step) -> None:
    """Leave a failed step's words where the judge reads them; what follows is not done."""
    if step.code not in (0, 75):
        raise Ended


class Ended(Exception):
    """A command before the last one failed, and what it said is judged."""


# ---------------------------------------------------------------- last commands


def train(case: Case) -> None:
    case.do(*case.train_words(case.folder / "run"))


def dry_run(case: Case) -> None:
    words = case.train_words(case.folder / "run")
    case.do(*words[: words.index("--output")], "--dry-run")


def resume(case: Case) -> None:
    case.do("resume", case.target or case.folder / "run")


def _held(case: Case) -> Path:
    return case.write("measured.jsonl", case.shaped(case.held))


def evaluate_run(case: Case) -> None:
    words = [] if case.own_rows else ["--data", _held(case)]
    target = case.target or case.folder / "run"
    case.do("eval", target, "--samples", "0", *words, *case.last_words)


def evaluate_folder(case: Case) -> None:
    case.target = case.model
    evaluate_run(case)


def generate_run(case: Case) -> None:
    prompts = case.write("asked.jsonl", [{"prompt": row["prompt"]} for row in case.held[:6]])
    words = ["--prompts", prompts, "--k", "2", "--max-new-tokens", "8", *case.last_words]
    case.do("generate", case.target or case.folder / "run", *words)


def generate_folder(case: Case) -> None:
    case.target = case.model
    generate_run(case)


def export(case: Case) -> None:
    target = case.folder / "run"
    case.do("export", target, "--merge", "--output", case.folder / "merged", *case.last_words)


def continue_adapter(case: Case) -> None:
    words = case.train_words(case.folder / "next")
    case.do(*words, "--adapter", case.target or case.folder / "adapter")


def score(case: Case) -> None:
    words = ["--reward", case.target, "--output", case.folder / "scored.jsonl", *case.last_words]
    case.do("score", case.folder / "answers.jsonl", *words)


def learn_from_reward(case: Case) -> None:
    case.settings["rollouts.rewards"] = f"[{case.target}]"
    case.do(*case.train_words(case.folder / "grpo", "grpo"))


def learn_from_answers(case: Case) -> None:
    """Score the answers, pair them, and train on the pairs that come of it."""
    scored, pairs = case.folder / "scored.jsonl", case.folder / "own.jsonl"
    _require(
        case.do("score", case.folder / "answers.jsonl", "--reward", WORTHY, "--output", scored)
    )
    _require(case.do("pair", scored, "--output", pairs))
    words = case.train_words(case.folder / "own")
    words[words.index("--data") + 1] = str(pairs)
    # a dozen pairs of one word each: the audit would be right about their shortcuts
    case.do(*words, "--set", "data.max_rejected=0.9", "--set", "monitor.audit_rows=0")


def compare(case: Case) -> None:
    words = case.train_words(case.folder / "none")
    recipe = case.folder / "compare.yaml"
    recipe.write_text(_recipe(case, words), encoding="utf-8")
    output = ["--samples", "2", "--sample-tokens", "6", "--output", case.folder / "comparison"]
    case.do("compare", recipe, "--methods", f"{case.method},sft", "--seeds", "2", *output)


def report(case: Case) -> None:
    """Write a report over both runs; what its page says is said."""
    page = case.folder / "report.html"
    step = case.do("report", case.folder / "run", case.folder / "run2", "--output", page)
    if page.exists():
        text = re.sub(r"<(style|script)[\s\S]*?</\1>", "", page.read_text(encoding="utf-8"))
        words = [line.strip() for line in re.sub(r"<[^>]+>", "\n", text).split("\n")]
        # a page has marks of its own; its words are lines, and no alarms
        shown = "\n".join(f"page: {line}" for line in words if line)
        case.said.append(Step(["report"], step.code, shown))


def _recipe(case: Case, words: list[str]) -> str:
    """The training's words as a recipe, without those that the comparison gives itself."""
    import json

    given = dict(zip(words[1::2], words[2::2], strict=False))  # flags come in twos, --set as well
    sets = [words[at + 1] for at, word in enumerate(words) if word == "--set"]
    lines = [f"{key}: {value}" for key, value in (item.split("=", 1) for item in sets)]
    nested: dict[str, list[str]] = {}
    for line in lines:
        section, _, rest = line.partition(".")
        nested.setdefault(section, []).append(rest)
    nested.setdefault("model", []).append(f"name: {json.dumps(str(case.model))}")
    nested.setdefault("data", []).append(f"train: {json.dumps(given['--data'])}")
    nested["data"].append(f"held_out: {json.dumps(given['--held-out'])}")
    train = {"--steps": "steps", "--batch-size": "batch_size", "--learning-rate": "learning_rate"}
    nested.setdefault("train", []).extend(
        f"{key}: {given[flag]}" for flag, key in train.items() if flag in given
    )
    return "".join(
        f"{section}:\n" + "".join(f"  {line}\n" for line in each)
        for section, each in nested.items()
    )


PLACES: dict[str, Place] = {
    place.name: place
    for place in (
        Place("train", nothing, train),
        Place("dry run", nothing, dry_run),
        Place("resume", stopped, resume),
        Place("resume, finished", trained, resume),
        Place("eval", trained, evaluate_run),
        Place("eval, folder", nothing, evaluate_folder),
        Place("eval, adapter", adapter, evaluate_run),
        Place("export", trained, export),
        Place("generate", trained, generate_run),
        Place("generate, folder", nothing, generate_folder),
        Place("generate, adapter", adapter, generate_run),
        Place("train, adapter", adapter, continue_adapter),
        Place("reward, score", rewarded, score),
        Place("reward, grpo", rewarded, learn_from_reward),
        Place("own answers", answers, learn_from_answers),
        Place("compare", nothing, compare),
        Place("compare, again", compared, compare),
        Place("report", two_runs, report),
    )
}
