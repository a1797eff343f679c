"""SilentBench's part on files: plant faults into draws of real sets, and see what an audit names.

    python -m benchmarks.silentbench.files --data ../shared/data --seed 100 --seeds 10

Each kind of fault is drawn anew for each seed and base set (texts, words, places, columns, share of
the rows), and judged by a rule that was written before any run (rule.py). Clean files of many
kinds follow. A run that is stopped goes on where it was. Seeds under 100 are for development; the
published ones are 100 to 109. Results: benchmarks/results/silentbench_files.json, and a table on
standard output.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # each process has one core

import argparse
import json
import multiprocessing
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from pathlib import Path

from accord.environment.versions import installed_versions
from benchmarks.silentbench.files import clean, trial
from benchmarks.silentbench.files.table import counts, table

GROUP = 16  # cases that a process does before it reports: half a minute
RESULTS = Path(__file__).parents[2] / "results" / "silentbench_files.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the real base sets")
    parser.add_argument("--seed", type=int, required=True, help="the first seed")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--kinds", default="", help="only kinds whose name holds this")
    parser.add_argument("--items", default="", help="only this item, such as wrecks or leaks")
    parser.add_argument("--bases", default="", help="only base sets whose name holds this")
    parser.add_argument("--clean", type=int, default=5, help="clean files of each kind; 0 for none")
    parser.add_argument("--no-faults", action="store_true", help="clean files alone")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--every", action="store_true", help="name each case that was not named")
    options = parser.parse_args()
    options.output.parent.mkdir(parents=True, exist_ok=True)
    record, began = former(options.output), time.monotonic()
    for found in _results(options, record):
        for case in found:
            record["clean" if "size" in case else "cases"].append(case)
            print(_line(case), flush=True)
        _write(options.output, record)
    print(table(record, options.every))
    print(f"\n{time.monotonic() - began:.0f} s")


def _results(options: argparse.Namespace, record: dict) -> Iterator[list[dict]]:
    """Do what is not done yet, in the jobs' processes; yield the records of a group at a time."""
    tasks = _tasks(options, record)
    if options.jobs < 2:
        for task in tasks:
            yield task()
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.jobs, mp_context=context) as pool:
        for done in as_completed([pool.submit(task) for task in tasks]):
            yield done.result()


def _tasks(options: argparse.Namespace, record: dict) -> list[partial[list[dict]]]:
    """Group what is to be done: cases of one draw of a set share the audit without the fault."""
    seeds = range(options.seed, options.seed + options.seeds)
    done = {(c["kind"], c["base"], c["seed"]) for c in record["cases"]}
    groups: dict[tuple, list[trial.Draw]] = {}
    for draw in () if options.no_faults else trial.draws(seeds, options.kinds):
        kind = trial.BY_KIND[draw.kind]
        if (draw.kind, draw.base, draw.seed) in done or options.items not in kind.item:
            continue
        if options.bases in draw.base:
            groups.setdefault((draw.seed, draw.base, kind.held), []).append(draw)
    tasks = [
        partial(trial.do_all, options.data, group[i : i + GROUP])
        for group in groups.values()
        for i in range(0, len(group), GROUP)
    ]
    cleaned = {(c["kind"], c["seed"]) for c in record["clean"]}
    files = [
        (kind, seed)
        for seed in range(options.seed, options.seed + options.clean)
        for kind in clean.KINDS
        if (kind, seed) not in cleaned and not options.kinds
    ]
    return tasks + [
        partial(clean.do_all, options.data, files[i : i + GROUP])
        for i in range(0, len(files), GROUP)
    ]


def _line(case: dict) -> str:
    if "size" in case:
        alarms = ", ".join(each["check"] for each in case.get("alarms", []))
        return f"clean {case['kind']} {case['seed']}: {alarms or case.get('failed') or 'silent'}"
    return (
        f"{case['seed']} {case['kind']} | {case['base']} | {case['share']:.0%} |"
        f" {case.get('drawn', '')!r}: {case['verdict']} {case.get('check', '')}"
        f" {case['says'] if case['verdict'] != 'named' else ''}".rstrip()
    )


def former(file: Path) -> dict:
    """Read the results of an earlier run of the same command, which goes on behind them."""
    if not file.exists():
        return {"cases": [], "clean": []}
    record = json.loads(file.read_text(encoding="utf-8"))
    return {key: record[key] for key in ("cases", "clean")}


def _write(file: Path, record: dict) -> None:
    """Write one case on a line, so that two runs can be compared."""
    head = {"versions": installed_versions(("numpy", "scipy", "scikit-learn"))}
    head["counts"] = counts(record)
    parts = [json.dumps(head, indent=1)[:-2]]
    for name in ("cases", "clean"):
        lines = ",\n".join(json.dumps(case, ensure_ascii=False) for case in record[name])
        parts.append(f' "{name}": [\n{lines}\n ]')
    file.write_text(",\n".join(parts) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
