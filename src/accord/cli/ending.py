"""The end of a run on the terminal: the report's verdict, one prompt with both answers, the red
flags, and the commands that come next.
"""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterator
from pathlib import Path

from accord.environment.wrapping import wrap
from accord.errors import printable, shorten
from accord.pages.verdict import verdict
from accord.pages.words import MARKS, short
from accord.runs.files import read_json
from accord.runs.recorded import Recorded
from accord.training.last_answers import NAME

WIDEST = 100
LONGEST = 300  # characters of a prompt or an answer that are shown
LABEL = 10  # columns of "before", "after"


def ending(folder: Path, commands: Collection[str]) -> dict:
    """Collect the end of a run from its records, for a machine.

    Args:
      commands: names of the commands that exist.
    """
    run = Recorded.open(str(folder))
    return {
        "verdict": verdict(run),
        "answers": read_json(folder / NAME, {}),
        "flags": red_flags(run),
        "next": next_commands(run, commands),
    }


def red_flags(run: Recorded) -> list[dict]:
    """List the red flags of a run, each once, with the step that raised it."""
    raised: dict[str, dict] = {}
    for event in run.events:
        if event["verdict"] == "warning":
            kept = {name: event[name] for name in ("step", "check", "says", "remedy")}
            raised.setdefault(event["check"], kept)
    return list(raised.values())


def next_commands(run: Recorded, commands: Collection[str]) -> list[str]:
    """Return the commands that a person would give next, of those that work with this run."""
    folder = str(run.folder.path)
    named = shlex.quote(folder)
    answers = run.objective.needs != "scores"
    merge = " --merge" if run.config.model.lora is not None else ""
    output = shlex.quote(_free(f"{folder.rstrip('/')}-{'merged' if merge else 'exported'}"))
    wanted = {
        "chat": answers and f"accord chat {named}",
        "report": f"accord report {named}",
        # it asks for rows that were not trained on, and a reward model is measured by its training
        "eval": answers and run.config.held_out_file is not None and f"accord eval {named}",
        "export": f"accord export {named}{merge} --output {output}",
    }
    return [line for name, line in wanted.items() if line and name in commands]


def _free(folder: str) -> str:
    """Return a folder's name, with the first number that makes it a new one."""
    number, name = 1, folder
    while Path(name).exists():
        number += 1
        name = f"{folder}-{number}"
    return name


def ending_lines(found: dict, width: int | None) -> Iterator[str]:
    """Yield the end of a run, line by line.

    Args:
      width: columns of the terminal; None where there is none, and nothing is broken.
    """
    width = 10**6 if width is None else min(width, WIDEST)
    yield ""
    for sentence in found["verdict"]:
        yield wrap(sentence, width)
    yield ""
    yield from _answer_lines(found["answers"], width)
    for flag in found["flags"]:
        says = f"{MARKS['warning']} step {flag['step']}  {short(flag['check'])}: {flag['says']}"
        yield wrap(says, width)
        if flag["remedy"]:
            yield wrap(f"    what to do: {flag['remedy']}", width)
    if found["flags"]:
        yield ""
    yield "What next:"
    for line in found["next"]:
        yield f"  {line}"


def _answer_lines(answers: dict, width: int) -> Iterator[str]:
    if "asked" not in answers:
        reason = answers.get("skipped", "this run recorded none")
        yield wrap(f"No answers are shown: {reason}.", width)
        yield ""
        return
    yield wrap("One prompt, answered with the likeliest tokens:", width)
    before = answers["before"]
    rows = [("prompt", answers["asked"]), ("after", _shown(answers["after"]))]
    if before is not None:
        rows.insert(1, (answers["before_is"], _shown(before)))
    for label, text in rows:
        line = shorten(printable(" ".join(text.split())), LONGEST) or "(nothing)"
        yield wrap(f"  {label:<{LABEL}}{line}", width, hang=LABEL)
    if before is None:
        yield wrap("  (the model before training is not in memory any more)", width)
    yield ""


def _shown(answer: dict) -> str:
    """Return an answer's text; one that was cut at the limit ends in an ellipsis."""
    return answer["text"] + ("" if answer["ended"] else " …")
