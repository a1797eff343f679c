"""Kill a run anywhere, fill its disk, damage its checkpoints: does it go on as if nothing had
happened, or say why not?

    OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 python benchmarks/torture.py MODE... [--kills 200]
    [--every 1]

Modes: kills (SIGKILL at random times) · boundaries (SIGKILL before every file operation) · signals
(SIGTERM, SIGINT at random times) · full, read-only (the disk refuses from a file operation on) ·
mutants (damaged and foreign checkpoints). Each life ends with `accord resume` until the run is
done, and its folder is compared byte for byte with that of an uninterrupted run: weights,
optimizer, moving reference, metrics, pointers. Counts go to benchmarks/results/torture.json after
every life; --go-on takes up what was cut off, --seconds stops after so long.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path

# a fork is sound while there is one thread
os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"
sys.path.insert(0, str(Path(__file__).parent))

from torturing import child, lives, world

RESULTS = Path(__file__).parent / "results/torture.json"
BATCH = 100  # mutants that are judged together
FAULTS = {"boundaries": "kill", "full": "full", "read-only": "read-only"}
RANDOM = {"kills": lives.random_kills, "signals": lives.random_signals}
PER_LIFE = 3  # kills or signals


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "modes",
        nargs="+",
        choices=["kills", "boundaries", "signals", "full", "read-only", "mutants"],
    )
    parser.add_argument("--kills", type=int, default=200, help="kills or signals at random times")
    parser.add_argument("--mutants", type=int, default=1000)
    parser.add_argument("--every", type=int, default=1, help="take every n-th boundary only")
    parser.add_argument("--cases", nargs="*", default=list(world.CASES), choices=list(world.CASES))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--seconds", type=float, default=float("inf"), help="begin no life after so long"
    )
    parser.add_argument(
        "--go-on", action="store_true", help="after the lives that the results tell of"
    )
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    warm_up()
    wrong, until = 0, time.monotonic() + options.seconds
    # where a flush to the disk costs nothing
    memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with tempfile.TemporaryDirectory(prefix="torture-", dir=memory) as folder:
        root = Path(folder)
        child.apart(lambda: world.build(root / "world"))
        known = [
            lives.straight(world.World(root / "world"), name, world.CASES[name], root / "straight")
            for name in options.cases
        ]
        for mode in options.modes:
            score = torture(mode, known, root, options, until)
            wrong += len(score.wrong)
            print(mode, json.dumps(score.as_dict(), indent=1), flush=True)
            shutil.rmtree(root / mode, ignore_errors=True)
    sys.exit(bool(wrong))


def warm_up() -> None:
    """Import all that a child will need, once."""
    from accord.environment.settings import apply_env_defaults

    apply_env_defaults()
    import peft  # noqa: F401
    import torch
    import transformers.models.llama.modeling_llama  # noqa: F401
    from transformers.conversion_mapping import get_checkpoint_conversion_mapping

    import accord.cli.app
    import accord.runs.display
    import accord.training.run  # noqa: F401

    # compiles some thousand patterns, a third of a tiny run's time
    get_checkpoint_conversion_mapping("llama")
    torch.set_num_threads(1)
    child.only_thread()


def torture(
    mode: str, cases: list[lives.Straight], root: Path, options: argparse.Namespace, until: float
) -> lives.Score:
    """All lives of one mode, or those that there is time for; the record is written after each."""
    score, done = former(options.output, mode) if options.go_on else (lives.Score(), 0)
    made = world.World(root / "world")
    for number, life in enumerate(planned(mode, made, cases, root / mode, options)):
        if time.monotonic() > until or (
            mode in RANDOM and score.counts["killed"] + score.counts["stopped"] >= options.kills
        ):
            break
        if number >= done:
            life(score)
            record(options.output, mode, number + 1, score, options)
    return score


def planned(
    mode: str,
    made: world.World,
    cases: list[lives.Straight],
    root: Path,
    options: argparse.Namespace,
) -> Iterator[Callable[[lives.Score], None]]:
    """The lives of a mode in their order, without end where they are random."""
    if mode == "mutants":
        from torturing.damage import Damage

        damage = Damage(made, cases, root, options.seed)
        for first in range(0, options.mutants, BATCH):
            yield partial(damage.mutants, range(first, min(first + BATCH, options.mutants)))
    elif mode in FAULTS:
        for one in cases:
            for at in range(0, one.boundaries, options.every):
                yield partial(
                    lives.at_boundary,
                    made,
                    one,
                    root / f"{one.folder.parent.name}-{at}",
                    child.Fault(FAULTS[mode], at),
                )
    else:
        for number in count():
            case, trial = cases[number % len(cases)], root / f"{number}"
            yield partial(
                RANDOM[mode], made, case, trial, 1 + number % PER_LIFE, options.seed + number
            )


def former(file: Path, mode: str) -> tuple[lives.Score, int]:
    """What the results tell of a mode, and how many lives that was."""
    told = json.loads(file.read_text()).get(mode) if file.exists() else None
    return (lives.Score.of(told["counts"]), told["done"]) if told else (lives.Score(), 0)


def record(
    file: Path, mode: str, done: int, score: lives.Score, options: argparse.Namespace
) -> None:
    """Beside what other modes left."""
    results = json.loads(file.read_text()) if file.exists() else {}
    asked = {
        "kills": options.kills,
        "mutants": options.mutants,
        "every": options.every,
        "seed": options.seed,
        "cases": options.cases,
    }
    results[mode] = {"asked": asked, "done": done, "counts": score.as_dict()}
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
