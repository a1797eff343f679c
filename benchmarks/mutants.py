"""Does the suite bite? Wrong lines of code, one at a time, each run against the tests that execute
the line.

    python benchmarks/mutants.py --sample 40 --seed 0             # of each part; results in
                                                                  # benchmarks/results/mutants.json
    python benchmarks/mutants.py --only data/order.py             # every mutant of one file
    python benchmarks/mutants.py --only data/order.py --match "Lt"     # those whose name holds this

A mutant is one changed node of a file's syntax tree (mutating/changes.py). It is written into a
copy of `src`; the tests of its part that execute the line, as a run of them without any mutant has
shown, are run in a child forked from a parent that has torch and pytest loaded, the quickest first.
A failure, an error or a time limit kills it; one that no test runs has survived. What survives is
listed with its line; tests/survivors.md says why. Results are written after each mutant, and
--go-on takes up what was cut off.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"
sys.path.insert(0, str(Path(__file__).parent))

from mutating.changes import SOURCE, Mutant, mutants_of
from mutating.trial import UNSEEN, Trial, warm_up

RESULTS = Path(__file__).parent / "results/mutants.json"
SURVIVED = ("survived", UNSEEN)


@dataclass(frozen=True)
class Part:
    """Source files, and the tests that are there for them."""

    sources: tuple[str, ...]  # patterns under src/accord
    tests: tuple[str, ...]  # under tests

    def files(self) -> list[str]:
        found = [path for pattern in self.sources for path in sorted(SOURCE.glob(pattern))]
        return [str(path.relative_to(SOURCE)) for path in found if path.name != "__init__.py"]


LOSSES = ("pairs", "labelled", "reference_free", "supervised", "numerics")
CERTIFIED = (
    "certificate",
    "closed_forms",
    "policy_closed_forms",
    "custom",
    "objective",
    "options",
    "table",
    "policy_gradient",
    "reward",
)
TABLES = ("records", "statistics")
MEASURES = ("displacement", "generate", "held_out", "probe", "similarity")
SCORES = "tests/training/test_reward_model.py::test_every_path_gives_the_classifiers_own_score"
ROLLOUTS = ("advantages", "pairing", "lines")
PARTS = {
    "losses": Part(
        tuple(f"objectives/{name}.py" for name in LOSSES),
        tuple(
            f"tests/objectives/test_{name}.py"
            for name in ("battery", "exact_numbers", "options", "numerics")
        ),
    ),
    "objectives": Part(tuple(f"objectives/{name}.py" for name in CERTIFIED), ("tests/objectives",)),
    "data": Part(
        ("data/trees.py", "data/order.py"), ("tests/data/test_trees.py", "tests/data/test_order.py")
    ),
    "forward": Part(("forward/*.py",), ("tests/forward", SCORES)),
    "metrics": Part(
        tuple(f"evaluate/{name}.py" for name in TABLES),
        tuple(f"tests/evaluate/test_{name}.py" for name in TABLES),
    ),
    "evaluate": Part(
        tuple(f"evaluate/{name}.py" for name in MEASURES),
        tuple(f"tests/evaluate/test_{name}.py" for name in MEASURES),
    ),
    "online": Part(
        tuple(f"online/{name}.py" for name in ROLLOUTS),
        tuple(f"tests/online/test_{name}.py" for name in ROLLOUTS),
    ),
    "rewards": Part(("online/rewards/*.py",), ("tests/online/test_rewards.py",)),
    "checkpoint": Part(
        ("runs/checkpoint.py", "runs/files.py"),
        ("tests/training/test_checkpoint.py", "tests/training/test_files.py"),
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--sample", type=int, help="so many mutants of each part, drawn evenly; all without it"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--parts", nargs="*", default=list(PARTS), choices=list(PARTS))
    parser.add_argument("--only", nargs="*", metavar="FILE", help="of src/accord")
    parser.add_argument("--match", default="", help="mutants whose name holds this")
    parser.add_argument(
        "--seconds",
        type=float,
        default=float("inf"),
        help="stop after so long, and say how far it came",
    )
    parser.add_argument(
        "--go-on", action="store_true", help="keep what the results tell of, and do the rest"
    )
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    until = time.monotonic() + options.seconds
    results = json.loads(options.output.read_text()) if options.output.exists() else {}
    warm_up()
    for part in options.parts:
        mutants = chosen(PARTS[part], options)
        fates = dict(results[part]["tried"]) if options.go_on and part in results else {}
        left = {name: mutant for name, mutant in mutants.items() if name not in fates}
        for name, fate in tried(PARTS[part], left, until) if left else ():
            fates[name] = fate
            print(f"{len(fates):>5}/{len(mutants)}  {fate:<9} {name}", flush=True)
            results[part] = report(fates, options)
            options.output.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    print(json.dumps({part: results[part]["total"] for part in options.parts if part in results}))


def chosen(part: Part, options: argparse.Namespace) -> dict[str, Mutant]:
    """By name; two changes of one line that read alike are told apart by a number."""
    found: dict[str, Mutant] = {}
    for file in part.files():
        for mutant in mutants_of(file) if not options.only or file in options.only else ():
            name, again = mutant.name, 1
            while name in found:
                again += 1
                name = f"{mutant.name} ({again})"
            found[name] = mutant
    names = [name for name in found if options.match in name]
    random.Random(options.seed).shuffle(names)
    return {name: found[name] for name in names[: options.sample]}


def tried(part: Part, mutants: Mapping[str, Mutant], until: float) -> Iterator[tuple[str, str]]:
    """(name, fate) of each, as long as there is time."""
    with tempfile.TemporaryDirectory() as folder:
        trial = Trial(Path(folder), part.tests)
        if time.monotonic() < until:
            trial.follow()
        for name, mutant in mutants.items():
            if time.monotonic() > until:
                return
            yield name, trial.fate(mutant)


def report(fates: dict[str, str], options: argparse.Namespace) -> dict:
    """Counts in all and by file, and the survivors."""
    by_file: dict[str, Counter] = {}
    for name, fate in sorted(fates.items()):
        by_file.setdefault(name.split(":")[0], Counter())[fate] += 1
    killed = sum(fate not in SURVIVED for fate in fates.values())
    return {
        "total": {
            "tried": len(fates),
            "killed": killed,
            "share": killed / max(1, len(fates)),
            "seed": options.seed,
        },
        "by_file": {file: dict(found) for file, found in by_file.items()},
        "survivors": sorted(name for name, fate in fates.items() if fate in SURVIVED),
        "tried": fates,
    }


if __name__ == "__main__":
    main()
