"""A run that learns from its own answers on two processes, killed at random moments: does it go on
to what an uninterrupted run writes, and is a reward asked twice?

    python benchmarks/online_kills.py [--times 10] [--seed 0] [--only "rank 0; server"]

Each life begins a run of the two-layer model of the tests, with GRPO and a reward that notes every
answer that it is asked for. SIGKILL comes to one of the ranks, or to all of them ("trainer"), at a
random moment after a random number of batches: while the next one is drawn, scored, measured or
trained on; or while the run is made ready. Then the run is resumed: on two processes, and what it
wrote must be that of the uninterrupted run, to the byte; one time in three on one process, whose
log-probs may differ by rounding. An answer of a batch that was written before the kill must not be
scored again; those of the batch in flight are counted.

The "server" is the stand-in of the tests, in a process of its own, which draws for both ranks while
they train (rollouts.ahead). It is killed alone and started again a little later, without the
policy's adapters: the run must not end, and must be the one of a server that lived.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks/results/online_kills.json"
sys.path.append(str(ROOT / "tests"))  # the small model of its tests, and ranks by fork
VICTIMS = ("rank 0", "rank 1", "trainer", "server")
STEPS, PROMPTS, ANSWERS = 6, 4, 3
EACH = 0.4  # seconds of processor time: more than a batch and its update take
CLOSE = 1e-5  # nats a token that the rounding of other shares may make
REWARD = """
def each(prompts, answers, *, path):
    with open(path, "a") as file:
        file.write("x\\n" * len(answers))
    return [float(len(answer)) for answer in answers]
"""


@dataclass(frozen=True)
class Life:
    """A run that was killed and resumed."""

    victim: str
    after: int  # batches, of which this many were written when its time began
    seconds: float  # of processor time from then on
    resumed_on: int  # processes
    written: int  # batches of answers that were written when it died
    said: str  # by the survivor: the class of its error
    scored_again: int  # answers of the batch in flight
    paid_twice: int  # answers of written batches that were scored once more
    wrong: tuple[str, ...]  # files that are not those of the uninterrupted run


def doom(place: Path, after: int, seconds: float) -> None:
    """Kill this process once so many batches are written, and it has used so many seconds of
    processor time since then.
    """

    def wait() -> None:
        while len(batches(place)) < after:
            time.sleep(0.002)
        began = time.process_time()
        while time.process_time() - began < seconds:
            time.sleep(0.002)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=wait, daemon=True).start()


def work(
    place: Path, model: str, victims: Sequence[int], after: int, wait: float, server: str = ""
) -> dict:
    """Train, or resume, on this rank; return its processor time."""
    import accord

    began = time.process_time()
    if int(os.environ["RANK"]) in victims:
        doom(place, after, wait)
    output = place / "run"
    if (output / "config.yaml").is_file():
        accord.resume(str(output))
    else:
        accord.train(
            model=model,
            data=str(place.parent / "prompts.jsonl"),
            output=str(output),
            method="grpo",
            steps=STEPS,
            batch_size=PROMPTS,
            dtype="float32",
            learning_rate=1e-3,
            set={
                "rollouts.rewards": ["counted:each"],
                "rollouts.reward_options": {"counted:each": {"path": str(place / "asked")}},
                "rollouts.num_generations": ANSWERS,
                "rollouts.max_new_tokens": 6,
                "checkpoint.every": 1,
                "monitor.samples": 0,
            }
            | (_by_server(server) if server else {}),
        )
    return {"seconds": time.process_time() - began}


def _by_server(address: str) -> dict:
    return {"rollouts.sampler": {"server": address, "attempts": 20}, "rollouts.ahead": 1}


@contextmanager
def serving(model: str, port: int) -> Iterator[multiprocessing.process.BaseProcess]:
    """The stand-in, in a process of its own, once it answers."""
    from online.stand_in import serve

    process = multiprocessing.get_context("spawn").Process(
        target=serve, args=(Path(model), port), daemon=True
    )
    process.start()
    while True:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            break
        time.sleep(0.02)
    try:
        yield process
    finally:
        process.kill()
        process.join()


@dataclass
class Killer:
    """A server that is killed once so many batches are written and some seconds have passed, and
    started again after a pause.
    """

    place: Path
    model: str
    port: int
    after: int
    wait: float
    pause: float
    up: threading.Event = field(default_factory=threading.Event)
    over: threading.Event = field(default_factory=threading.Event)
    killed: bool = False  # before the run was over

    def run(self) -> None:
        tried = self.place / "run/sampler.jsonl"  # before, no server is a mistake of the user
        with serving(self.model, self.port):
            self.up.set()
            while not (
                self.over.is_set() or (tried.exists() and len(batches(self.place)) >= self.after)
            ):
                time.sleep(0.002)
            self.killed = not self.over.wait(self.wait)
        if not self.over.wait(self.pause):
            with serving(self.model, self.port):
                self.over.wait()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
    return port


def asked(place: Path) -> int:
    """Count the answers that the reward was asked for."""
    file = place / "asked"
    return len(file.read_text().splitlines()) if file.exists() else 0


def batches(place: Path) -> dict[str, bytes]:
    """Read the batches of answers that were written."""
    # not those that are being written
    written = sorted((place / "run/rollouts").glob("[0-9]*.json"))
    return {file.name: file.read_bytes() for file in written}


def served(
    place: Path, model: str, after: int, wait: float, pause: float
) -> tuple[list[str], bool]:
    """Train by a server that is killed and started again; return what went wrong on the ranks, and
    whether it was killed before the run was over.
    """
    from training.worlds import in_world

    place.mkdir()
    killer = Killer(place, model, free_port(), after, wait, pause)
    thread = threading.Thread(target=killer.run)
    thread.start()
    killer.up.wait()
    try:
        address = f"http://127.0.0.1:{killer.port}"
        ends = in_world(2, place / "ranks", work, place, model, (), 0, 0.0, address)
    finally:
        killer.over.set()
        thread.join()
    failed = [str(end) for end in ends if not isinstance(end, dict) or "error" in end]
    return failed, killer.killed


def without_server(number: int, rng: random.Random, folder: Path, model: str) -> Life:
    """Kill the server of a run, and start it again."""
    place, after = folder / f"life-{number}", rng.randrange(STEPS)
    wait, pause = rng.uniform(0, EACH), rng.uniform(0, 2)
    wrong, killed = served(place, model, after, wait, pause)
    again = asked(place) - STEPS * PROMPTS * ANSWERS
    wrong = wrong or differences(place, folder / "served", exact=True)
    said = "" if killed else "it had ended before"
    return Life("server", after, wait, 2, after, said, 0, again, tuple(wrong))


def differences(place: Path, straight: Path, exact: bool) -> list[str]:
    """List the files that are not those of the uninterrupted run."""
    from safetensors.torch import load_file

    ours, theirs = batches(place), batches(straight)
    wrong = sorted(set(ours) ^ set(theirs))
    for name in ours.keys() & theirs.keys():
        if ours[name] != theirs[name] and (exact or not _alike(ours[name], theirs[name])):
            wrong.append(name)
    found, right = (
        load_file(each / "run/adapter/adapter_model.safetensors") for each in (place, straight)
    )
    apart = max(float((found[name] - right[name]).abs().max()) for name in right)
    if found.keys() != right.keys() or apart > (0 if exact else 1e-6):
        wrong.append(f"adapter (apart by {apart:.1e})")
    return wrong


def _alike(one: bytes, other: bytes) -> bool:
    """Tell whether two batches are the same answers and rewards, with log-probs alike. The digests
    of the weights that drew them differ by rounding too.
    """
    bodies = [json.loads(each.splitlines()[1])["answers"] for each in (one, other)]
    return all(
        _close(mine[name], theirs[name])
        for mine, theirs in zip(*bodies, strict=True)
        for name in mine.keys() - {"policy"}
    )


def _close(one: object, other: object) -> bool:
    """Compare numbers within rounding, and all else exactly; also inside lists and mappings."""
    if isinstance(one, float) and isinstance(other, float):
        return abs(one - other) < CLOSE * max(1.0, abs(one))
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_close, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_close(one[k], other[k]) for k in one)
    return one == other


def live(
    victim: str, number: int, rng: random.Random, folder: Path, model: str, seconds: float
) -> Life:
    """Begin a run, kill it, resume it, compare it."""
    from training.worlds import GONE, in_world

    if victim == "server":
        return without_server(number, rng, folder, model)
    place = folder / f"life-{number}"
    place.mkdir()
    victims = (0, 1) if victim == "trainer" else (int(victim[-1]),)
    after, on = rng.randrange(STEPS), 1 if rng.random() < 1 / 3 else 2
    wait = rng.uniform(0, EACH if after else seconds / 2)
    ends = in_world(2, place / "ranks", work, place, model, victims, after, wait)
    said = next((end["error"] for end in ends if isinstance(end, dict) and "error" in end), "")
    written, before = len(batches(place)), asked(place)
    per_batch = PROMPTS * ANSWERS
    killed = GONE in ends
    if killed:
        again = in_world(on, place / "again", work, place, model, (), 0, 0.0)
        if any(not isinstance(end, dict) or "error" in end for end in again):
            wrong = (f"resumed: {again}",)
            return Life(victim, after, wait, on, written, said, 0, 0, wrong)
    straight = folder / "straight"
    return Life(
        victim,
        after,
        wait,
        on,
        written,
        said if killed else "it had ended before",
        before - written * per_batch,
        asked(place) - before - (STEPS - written) * per_batch,
        tuple(differences(place, straight, exact=on == 2)),
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--times", type=int, default=10, help="lives for each victim")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="; ".join(VICTIMS), help="separated by semicolons")
    parser.add_argument("--add", action="store_true", help="to the lives that the output has")
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    os.environ |= {"ACCORD_PATIENCE": "60", "OMP_NUM_THREADS": "1"}
    folder = Path(tempfile.mkdtemp(prefix="online-kills-"))
    (folder / "counted.py").write_text(REWARD)
    os.environ["PYTHONPATH"] = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    sys.path.insert(0, str(folder))
    try:
        model = _prepared(folder)
        lives = _lives(options, folder, model)
    finally:
        with suppress(OSError):
            shutil.rmtree(folder)
    bad = [life for life in lives if life.wrong or life.paid_twice]
    print(f"{len(lives)} lives, {len(bad)} of them wrong; {options.output}")
    return 1 if bad else 0


def _prepared(folder: Path) -> str:
    """Make the model and the prompts."""
    from conftest import save_tiny, small_tokenizer

    rows = [{"prompt": f"say something about the cat number {n}"} for n in range(2 * PROMPTS)]
    (folder / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "model").mkdir()
    return str(save_tiny(folder / "model", small_tokenizer.__wrapped__()))


def _lives(options: argparse.Namespace, folder: Path, model: str) -> list[Life]:
    from training.worlds import in_world

    straight = folder / "straight"
    straight.mkdir()
    ends = in_world(2, straight / "ranks", work, straight, model, (), 0, 0.0)
    assert all("seconds" in end for end in ends), ends
    assert asked(straight) == STEPS * PROMPTS * ANSWERS, "each answer is scored once"
    seconds = min(end["seconds"] for end in ends)
    victims = [name.strip() for name in options.only.split(";")]
    if "server" in victims:
        failed, _ = served(folder / "served", model, STEPS + 1, 0, 0)
        assert not failed, failed
    rng = random.Random(options.seed)
    before = json.loads(options.output.read_text()) if options.add else {"lives": [], "seeds": []}
    seeds = [*before["seeds"], options.seed]
    lives: list[Life] = []
    for number in range(options.times * len(victims)):
        victim = victims[number % len(victims)]
        lives.append(live(victim, number, rng, folder, model, seconds))
        print(lives[-1], flush=True)
        record = {
            "seeds": seeds,
            "steps": STEPS,
            "answers_of_a_batch": PROMPTS * ANSWERS,
            "lives": before["lives"] + [asdict(life) for life in lives],
        }
        options.output.write_text(json.dumps(record, indent=1) + "\n")
        shutil.rmtree(folder / f"life-{number}")
    return lives


if __name__ == "__main__":
    sys.exit(main())
