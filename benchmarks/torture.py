"""Kill a run anywhere, fill its disk, damage its checkpoints: does it go on as if nothing had happened, or say why not?

    OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 python benchmarks/torture.py MODE... [--kills 200] [--every 1]

Modes: kills (SIGKILL at random times) · boundaries (SIGKILL before every file operation) · signals (SIGTERM, SIGINT at
random times) · full, read-only (the disk refuses from a file operation on) · mutants (damaged and foreign checkpoints).
Each life ends with `accord resume` until the run is done, and its folder is compared byte for byte with that of an
uninterrupted run: weights, optimizer, moving reference, metrics, pointers. Counts go to benchmarks/results/torture.json.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"  # a fork is sound while there is one thread
sys.path.insert(0, str(Path(__file__).parent))

from torturing import child, lives, world  # noqa: E402

RESULTS = Path(__file__).parent / "results/torture.json"
FAULTS = {"boundaries": "kill", "full": "full", "read-only": "read-only"}
PER_LIFE = 3  # kills or signals


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modes", nargs="+", choices=["kills", "boundaries", "signals", "full", "read-only", "mutants"])
    parser.add_argument("--kills", type=int, default=200, help="kills or signals at random times")
    parser.add_argument("--mutants", type=int, default=1000)
    parser.add_argument("--every", type=int, default=1, help="take every n-th boundary only")
    parser.add_argument("--cases", nargs="*", default=list(world.CASES), choices=list(world.CASES))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    warm_up()
    wrong = 0
    memory = "/dev/shm" if os.path.isdir("/dev/shm") else None  # where a flush to the disk costs nothing
    with tempfile.TemporaryDirectory(prefix="torture-", dir=memory) as folder:
        root = Path(folder)
        child.apart(lambda: world.build(root / "world"))
        known = {name: lives.straight(world.World(root / "world"), name, world.CASES[name], root / "straight") for name in options.cases}
        for mode in options.modes:
            began = time.monotonic()
            score = torture(mode, world.World(root / "world"), list(known.values()), root / mode, options)
            record(options.output, mode, {"seconds": round(time.monotonic() - began), **score.as_dict()}, options)
            wrong += len(score.wrong)
            print(mode, json.dumps(score.as_dict(), indent=1), flush=True)
            shutil.rmtree(root / mode, ignore_errors=True)
    sys.exit(bool(wrong))


def warm_up() -> None:
    """Import all that a child will need, once."""
    from accord.environment import settle

    settle()
    import peft  # noqa: F401
    import torch
    import transformers.models.llama.modeling_llama  # noqa: F401
    from transformers.conversion_mapping import get_checkpoint_conversion_mapping

    import accord.cli
    import accord.training.display
    import accord.training.run  # noqa: F401

    get_checkpoint_conversion_mapping("llama")  # compiles some thousand patterns, a third of a tiny run's time
    torch.set_num_threads(1)
    child.only_thread()


def torture(mode: str, made: world.World, cases: list[lives.Straight], root: Path, options: argparse.Namespace) -> lives.Score:
    """All lives of one mode."""
    score = lives.Score()
    if mode == "mutants":
        from torturing.damage import mutants

        mutants(made, cases, root, options.mutants, options.seed, score)
    elif mode in FAULTS:
        for one in cases:
            print(f"{mode}: {one.name}, {one.boundaries} boundaries, {one.seconds:.1f} s", file=sys.stderr, flush=True)
            score.counts["boundaries"] += one.boundaries
            for at in range(0, one.boundaries, options.every):
                lives.at_boundary(made, one, root / f"{at}", child.Fault(FAULTS[mode], at), score)
    else:
        life = lives.random_kills if mode == "kills" else lives.random_signals
        number = 0
        while score.counts["killed"] + score.counts["stopped"] < options.kills:
            one = cases[number % len(cases)]
            life(made, one, root / f"{number}", 1 + number % PER_LIFE, options.seed + number, score)
            number += 1
    return score


def record(file: Path, mode: str, counts: dict, options: argparse.Namespace) -> None:
    """Beside what other modes left."""
    results = json.loads(file.read_text()) if file.exists() else {}
    results[mode] = {"command": "python benchmarks/torture.py " + " ".join(sys.argv[1:]), "cases": options.cases, **counts}
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
