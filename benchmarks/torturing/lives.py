"""Runs that are killed, stopped, or out of room, go on, and are compared with the run that nothing
happened to.
"""

from __future__ import annotations

import json
import random
import re
import shutil
import signal
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from torturing.child import Fault, Outcome, accord
from torturing.compare import differences
from torturing.world import World

NOT_BEGUN = 2  # exit code of `accord resume` where a kill came before the first file


@dataclass
class Score:
    """What happened, counted; and what went wrong, in words."""

    counts: Counter = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    slowest: float = 0.0  # seconds on a processor from a signal to the end of the process

    @classmethod
    def of(cls, told: dict) -> Score:
        """The inverse of `as_dict`."""
        told = dict(told)
        wrong, slowest = told.pop("wrong"), told.pop("slowest_stop_seconds")
        return cls(Counter(told), wrong, slowest)

    def as_dict(self) -> dict:
        return {
            **dict(sorted(self.counts.items())),
            "slowest_stop_seconds": round(self.slowest, 2),
            "wrong": self.wrong,
        }


@dataclass(frozen=True)
class Straight:
    """The uninterrupted run of a case."""

    name: str
    case: dict
    folder: Path
    seconds: float
    boundaries: int


def straight(world: World, name: str, case: dict, root: Path) -> Straight:
    trial = root / re.sub(r"\W+", "-", name)
    done = accord(world.train(case, trial / "run"), trial)
    assert done.code == 0, done.said
    return Straight(name, case, trial / "run", done.seconds, done.boundaries)


def finish(world: World, one: Straight, trial: Path, score: Score, label: str) -> None:
    """Go on until the run is done; compare; delete it where all is well."""
    for _ in range(3):
        done = accord(next_command(world, one, trial), trial)
        if done.code == 0:
            break
    apart = (
        differences(one.folder, trial / "run")
        if done.code == 0
        else [f"exit {done.code}: {done.said[-600:]}"]
    )
    score.counts["lives"] += 1
    if apart:
        score.wrong.append(f"{one.name}, {label}: {apart}")
    else:
        score.counts["bitwise equal"] += 1
        shutil.rmtree(trial)


def next_command(world: World, one: Straight, trial: Path) -> list[str]:
    """Resume what has begun, else begin."""
    if (trial / "run/config.yaml").is_file():
        return ["resume", str(trial / "run")]
    return world.train(one.case, trial / "run")


# ---------------------------------------------------------------- at random times


def random_kills(
    world: World, one: Straight, trial: Path, kills: int, seed: int, score: Score
) -> None:
    """One life with up to so many kills at random times; now and then half a line is left in the
    records as well.
    """
    rng = random.Random(seed)
    for _ in range(kills):
        done = accord(next_command(world, one, trial), trial, after=rng.uniform(0, one.seconds))
        score.counts["killed" if done.killed else "was done before the kill"] += 1
        if not done.killed and done.code != 0:
            score.wrong.append(f"{one.name}, seed {seed}: exit {done.code}: {done.said[-600:]}")
        metrics = trial / "run/metrics.jsonl"
        if done.killed and metrics.exists() and rng.random() < 0.25:
            metrics.open("a").write('{"step": 3, "lo')
            score.counts["half a line left"] += 1
    finish(world, one, trial, score, f"seed {seed}")


def random_signals(
    world: World, one: Straight, trial: Path, stops: int, seed: int, score: Score
) -> None:
    """One life with SIGTERM or SIGINT at random times: exit 75 with words, at most one step lost,
    then the same bytes.
    """
    rng = random.Random(seed)
    for _ in range(stops):
        number = rng.choice([signal.SIGTERM, signal.SIGINT])
        done = accord(
            next_command(world, one, trial), trial, after=rng.uniform(0, one.seconds), number=number
        )
        judge_stop(one, trial, done, score, f"seed {seed}")
        if done.code == 0:
            break
    finish(world, one, trial, score, f"seed {seed}")


def judge_stop(one: Straight, trial: Path, done: Outcome, score: Score, label: str) -> None:
    if done.code == 0:  # the signal came after the last thing that it could stop
        score.counts["was done before the signal"] += 1
        return
    # no process can take note of one before it has begun
    if done.code in (-signal.SIGTERM, -signal.SIGINT) and not done.said:
        score.counts["came before the command had begun"] += 1
        return
    score.counts["stopped"] += 1
    score.counts[f"stopped while: {phase(done.said)}"] += 1
    score.slowest = max(score.slowest, done.waited)
    lost = _steps(trial / "run") - _saved(trial / "run")
    if (
        done.code != 75
        or "stopped: " not in done.said
        or "Traceback" in done.said
        or (lost > 1 and _saved(trial / "run"))
    ):
        score.wrong.append(
            f"{one.name}, {label}: exit {done.code}, {lost} steps lost: {done.said[-600:]}"
        )


def phase(said: str) -> str:
    """What the run was about, from the last line that announced it."""
    marks = {
        "· loading": "loading",
        "· reading": "reading and tokenising",
        "· comparing": "forward path",
        "· step 0": "proofs",
        "· log-probs of": "reference pass",
        "peak learning rate": "training, evaluation, saving",
        "resumed at": "training, evaluation, saving",
        "step     5/5": "last evaluation and final save",
    }
    found = "imports and config"
    for line in said.splitlines():
        found = next((name for mark, name in marks.items() if mark in line), found)
    return found


def _steps(run: Path) -> int:
    """Updates that metrics.jsonl tells of."""
    file = run / "metrics.jsonl"
    return (
        max((json.loads(line)["step"] for line in file.read_text().splitlines()), default=0)
        if file.exists()
        else 0
    )


def _saved(run: Path) -> int:
    return max((int(path.name.split("-")[1]) for path in run.glob("checkpoints/step-*")), default=0)


# ---------------------------------------------------------------- at every boundary


def at_boundary(world: World, one: Straight, trial: Path, fault: Fault, score: Score) -> None:
    """One life with a fault at one file operation of the uninterrupted run."""
    done = accord(world.train(one.case, trial / "run"), trial, fault=fault)
    label = f"{fault.kind} at boundary {fault.at}"
    if fault.kind == "kill":
        score.counts["killed"] += done.killed
        if not done.killed:
            score.wrong.append(
                f"{one.name}, {label}: was not killed: exit {done.code}: {done.said[-600:]}"
            )
    elif fault.kind in ("term", "int"):
        judge_stop(one, trial, done, score, label)
    else:
        judge_disk(one, trial, done, score, label)
    finish(world, one, trial, score, label)


def judge_disk(one: Straight, trial: Path, done: Outcome, score: Score, label: str) -> None:
    """Exit 6 in words. (0 where only the cache, or what was to be deleted, met the disk.)
    Checkpoints are whole.
    """
    from accord.runs.checkpoint import verify

    score.counts[f"exit {done.code}"] += 1
    if (
        done.code not in (0, 6)
        or "Traceback" in done.said
        or (done.code == 6 and "error: " not in done.said)
    ):
        score.wrong.append(f"{one.name}, {label}: exit {done.code}: {done.said[-900:]}")
    for path in (trial / "run/checkpoints").glob("step-*"):
        score.counts["checkpoints verified"] += 1
        if problem := verify(path):
            score.wrong.append(f"{one.name}, {label}: {path.name}: {problem}")
