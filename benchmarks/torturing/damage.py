"""Damaged and foreign checkpoints: is each found, named, and the newest good one used?"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

from torturing.child import accord, apart
from torturing.compare import differences
from torturing.lives import Score, Straight, straight
from torturing.world import STEPS, World, pair, write_rows

FILES = ("tensors.safetensors", "state.json", "MANIFEST.json")
MANY = {"checkpoint.every": 1, "checkpoint.keep": 9}  # a checkpoint of every step stays
RESUMED = 20  # every so many mutants, the whole command
# What a checkpoint of another run differs in, and the words that must name it.
FOREIGN = {
    "other config": ({"train.learning_rate": 0.002}, "train.learning_rate"),
    "other mix of the reference": ({"moving.mix": 0.25}, "moving.mix"),
    "other reference": ({"reference": "frozen"}, "the reference"),
    "other seed": ({"train.seed": 7}, "train.seed"),
    "other data": ({}, "the training data"),
}
NAME = "lora, moving"


def _changed(case: dict, changes: dict) -> dict:
    """Return a case with changes; where its reference stands still, nothing says how it moves."""
    still = changes.get("reference", "moving") != "moving"
    kept = {key: value for key, value in case.items() if not (still and key.startswith("moving."))}
    return kept | changes


class Damage:
    """One run with a checkpoint of every step, runs that are not quite it, and mutants of its
    checkpoints.
    """

    def __init__(self, world: World, cases: list[Straight], root: Path, seed: int):
        (case,) = [one.case for one in cases if one.name == NAME] or [cases[0].case]
        self.root, self.seed = root, seed
        self.base = straight(world, NAME, {**case, **MANY}, root / "base")
        self.strangers = {
            name: _stranger(world, _changed({**case, **MANY}, changes), name, root)
            for name, (changes, _) in FOREIGN.items()
        }

    def mutants(self, numbers: range, score: Score) -> None:
        """Damaged copies of the run's checkpoints; all are judged by what `accord resume` calls,
        some by the command.
        """
        plans = {number: self._plan(number) for number in numbers}
        verdicts = self.root / "verdicts.json"
        runs = [self.root / f"{number}/run" for number in numbers]
        apart(lambda: verdicts.write_text(json.dumps(_judge_all(self.base.folder, runs))))
        for (number, plan), verdict in zip(
            plans.items(), json.loads(verdicts.read_text()), strict=True
        ):
            score.counts["mutants"] += 1
            score.counts[plan["kind"]] += 1
            _count(plan, verdict, number, score)
            if number % RESUMED == 0:
                _resume(self.base, self.root / f"{number}", plan, number, score)
            shutil.rmtree(self.root / f"{number}", ignore_errors=True)

    def _plan(self, number: int) -> dict:
        trial = self.root / f"{number}"
        shutil.copytree(self.base.folder, trial / "run")
        return _mutate(trial / "run/checkpoints", random.Random(self.seed + number), self.strangers)


def _stranger(world: World, case: dict, name: str, root: Path) -> Path:
    """The checkpoints of a run that is not quite the same."""
    if name == "other data":
        other = World(root / "other-world")
        shutil.copytree(world.root, other.root)
        write_rows(other.root / "train.jsonl", [pair(i) for i in range(30, 50)])
        world = other
    return straight(world, name, case, root / "strangers").folder / "checkpoints"


# ---------------------------------------------------------------- damage


def _mutate(checkpoints: Path, rng: random.Random, strangers: dict[str, Path]) -> dict:
    """Damage the newest checkpoint, at times the one before it as well; what was done, and which
    one is good.
    """
    hit = 1 + (rng.random() < 0.3)
    done = [_damage(checkpoints, STEPS - n, rng, strangers) for n in range(hit)]
    return {"kind": done[0][0], "words": [words for _, words in done], "good": STEPS - hit}


def _damage(
    checkpoints: Path, step: int, rng: random.Random, strangers: dict[str, Path]
) -> tuple[str, str]:
    path = checkpoints / f"step-{step:06d}"
    if rng.random() < 0.2:
        name = rng.choice(list(strangers))
        shutil.rmtree(path)
        shutil.copytree(strangers[name] / path.name, path)
        return name, FOREIGN[name][1]
    kind = rng.choice(list(DAMAGE))
    file = path / rng.choice(FILES)
    words = DAMAGE[kind](file, rng)
    return kind, file.name if words is None else words


def _flip(file: Path, rng: random.Random) -> None:
    data = bytearray(file.read_bytes())
    for place in rng.sample(range(len(data)), rng.choice([1, 1, 2, 8])):
        data[place] ^= 1 << rng.randrange(8)
    file.write_bytes(data)


def _truncate(file: Path, rng: random.Random) -> None:
    file.write_bytes(file.read_bytes()[: rng.randrange(1, file.stat().st_size)])


def _grow(file: Path, rng: random.Random) -> None:
    file.write_bytes(file.read_bytes() + rng.choice([b"\n", b"\0" * 512, b"{}"]))


def _blank(file: Path, rng: random.Random) -> None:
    """A block that was never written: zeros."""
    data = bytearray(file.read_bytes())
    start = rng.randrange(len(data))
    data[start : start + 512] = bytes(len(data[start : start + 512]))
    if data == file.read_bytes():  # zeros already
        data[0] ^= 255
    file.write_bytes(data)


def _missing(file: Path, rng: random.Random) -> None:
    file.unlink()


def _empty(file: Path, rng: random.Random) -> None:
    file.write_bytes(b"")


def _swapped(file: Path, rng: random.Random) -> str:
    """Two files of one checkpoint under each other's names: whichever is found first is named."""
    other = file.with_name(rng.choice([name for name in FILES if name != file.name]))
    first, second = file.read_bytes(), other.read_bytes()
    file.write_bytes(second)
    other.write_bytes(first)
    return ""


def _older(file: Path, rng: random.Random) -> None:
    """The file of another step."""
    shutil.copy(file.parent.with_name(f"step-{rng.randrange(1, STEPS - 1):06d}") / file.name, file)


def _whole_older(file: Path, rng: random.Random) -> str:
    """A whole checkpoint under a newer one's name: every hash fits."""
    shutil.rmtree(file.parent)
    shutil.copytree(file.parent.with_name(f"step-{rng.randrange(1, STEPS - 1):06d}"), file.parent)
    return "MANIFEST.json is of step"


def _folder(file: Path, rng: random.Random) -> None:
    """A folder where a file was."""
    file.unlink()
    file.mkdir()


DAMAGE: dict[str, Callable[[Path, random.Random], str | None]] = {
    "bit flips": _flip,
    "truncated": _truncate,
    "grown": _grow,
    "zeros": _blank,
    "missing file": _missing,
    "empty file": _empty,
    "swapped files": _swapped,
    "file of another step": _older,
    "another step's folder": _whole_older,
    "folder for a file": _folder,
}


# ---------------------------------------------------------------- verdicts


def _judge_all(base: Path, runs: list[Path]) -> list[dict]:
    """What `accord resume` finds in each: the same calls, on a run that is prepared once."""
    from accord.runs import checkpoint
    from accord.runs.display import SilentDisplay
    from accord.runs.folder import RunFolder
    from accord.runs.resume_check import same_run
    from accord.runs.signals import Stop
    from accord.training.setup.prepare import prepare
    from accord.types import AccordError

    ready = prepare(RunFolder(base).config(), SilentDisplay(), Stop())
    verdicts = []
    for run in runs:
        problems: list[str] = []
        try:
            used = same_run(
                checkpoint.verified_checkpoints(run / "checkpoints", problems),
                ready,
                RunFolder(run),
                problems,
            ).step
        except AccordError as error:
            used, problems = 0, [str(error)]
        verdicts.append({"used": used, "problems": problems})
    return verdicts


def _count(plan: dict, verdict: dict, number: int, score: Score) -> None:
    """Each damaged checkpoint in a line that names it and what is wrong with it; the newest good
    one is used.
    """
    named = [
        any(
            line.startswith(f"step-{STEPS - n:06d}: ") and words in line
            for line in verdict["problems"]
        )
        for n, words in enumerate(plan["words"])
    ]
    score.counts["detected and named"] += all(named)
    score.counts["newest good one used"] += verdict["used"] == plan["good"]
    if not all(named) or verdict["used"] != plan["good"]:
        score.wrong.append(f"mutant {number}: {plan}: {verdict}")


def _resume(base: Straight, trial: Path, plan: dict, number: int, score: Score) -> None:
    """The whole command: says what it passes over, and ends with the bytes of the run that nothing
    happened to.
    """
    done = accord(["resume", str(trial / "run")], trial)
    aloud = done.said.count("! checkpoint passed over: step-") == len(plan["words"])
    different = differences(base.folder, trial / "run") if done.code == 0 else [f"exit {done.code}"]
    score.counts["resumed by the command"] += 1
    score.counts["resumed aloud and bitwise equal"] += aloud and not different
    if not aloud or different:
        score.wrong.append(f"mutant {number} resumed: {plan}: {different}: {done.said[-600:]}")
