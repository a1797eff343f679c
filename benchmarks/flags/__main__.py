"""Does each failure raise its own red flag, and a healthy run none? Precision and recall over a
gallery of tiny runs.

    python benchmarks/flags --data DIR [--work DIR] [--only WORD]

DIR holds truthfulqa/ (see BENCHMARKS.md). The base model (about 150,000 parameters, fine-tuned on
the data's answers) and every run are kept in --work; a run that lies there is not made again, but
judged anew by today's rules (replay.py), which see its recorded figures alone: so a gallery that
was stopped goes on, and changed rules need no new runs. Results: benchmarks/results/flags.json.

Recall: runs made to fail that raised one of their expected flags, over all such runs. Precision:
warnings that belong to their run, over all warnings raised, the healthy runs' among them. Notes
(explanations) are no warnings.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from pathlib import Path

import torch
from cases import CASES, Case
from making import make
from replay import replay
from tiny import make_base

from accord.types import DataError, Refused

RESULTS = Path(__file__).parents[1] / "results" / "flags.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--work", type=Path, help="where the base model is kept")
    parser.add_argument("--only", default="", help="cases whose name holds this word")
    options = parser.parse_args()
    torch.set_num_threads(1)
    work = options.work or Path(tempfile.mkdtemp())
    rows = [
        json.loads(line)
        for line in (options.data / "truthfulqa/pairs_train.jsonl").read_text().splitlines()
    ]
    held_out = [
        json.loads(line)
        for line in (options.data / "truthfulqa/pairs_test.jsonl").read_text().splitlines()
    ]
    base = work / "base/final"
    if not base.is_dir():
        work.mkdir(parents=True, exist_ok=True)
        base = make_base(rows, work)
    wanted = {f"{case.name}, seed {seed}" for case in CASES for seed in range(case.seeds)}
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    # not those of a former gallery
    results = {key: found for key, found in results.items() if key in wanted}
    for seed in range(max(case.seeds for case in CASES)):
        for case in (case for case in CASES if seed < case.seeds):
            key = f"{case.name}, seed {seed}"
            if options.only in case.name:
                results[key] = measure(case, seed, rows, held_out, base, work)
                RESULTS.write_text(json.dumps(results, indent=1) + "\n")
                print(key, results[key], flush=True)
    print(table(results))


def measure(
    case: Case, seed: int, rows: list[dict], held_out: list[dict], base: Path, work: Path
) -> dict:
    """What one run raises; it is made where it does not lie in `work` yet."""
    run = work / "runs" / f"{case.name}, seed {seed}"
    if not (run / "README.md").is_file():  # written last
        shutil.rmtree(run, ignore_errors=True)
        try:
            make(case, seed, rows, held_out, base, run)
        except (DataError, Refused) as error:
            # the check stands below the headline
            return {"raised": ["refused: " + str(error).splitlines()[1].partition(":")[0]]}
    flags = replay(run)
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    accuracy = [
        line["eval_rewards/accuracies"] for line in lines if "eval_rewards/accuracies" in line
    ]
    return {
        "raised": [f.check.removeprefix("flag.") for _, f in flags if f.verdict == "warning"],
        "steps": [step for step, f in flags if f.verdict == "warning"],
        "notes": [f.check.removeprefix("flag.") for _, f in flags if f.verdict == "note"],
        "accuracy": accuracy[-1] if accuracy else None,
    }


def table(results: dict) -> str:
    """What each case raised, and both shares over all runs."""
    lines = [
        "| made to be | must raise | runs | raised it | raised otherwise |",
        "|---|---|---|---|---|",
    ]
    hits = fails = right = warnings = 0
    for case in CASES:
        runs = [
            results[key]
            for seed in range(case.seeds)
            if (key := f"{case.name}, seed {seed}") in results
        ]
        found = [bool(case.expected & set(run["raised"])) for run in runs]
        other = [
            flag for run in runs for flag in run["raised"] if flag not in case.expected | case.also
        ]
        beside = [flag for run in runs for flag in run["raised"] if flag in case.also]
        raised = sum(len(run["raised"]) for run in runs)
        warnings, right = warnings + raised, right + raised - len(other)
        if case.expected:
            hits, fails = hits + sum(found), fails + len(runs)
        shown = ", ".join(f"{flag} {other.count(flag)}×" for flag in sorted(set(other))) or "–"
        shown += f" (as it may: {', '.join(sorted(set(beside)))})" if beside else ""
        lines.append(
            f"| {case.name} | {' or '.join(sorted(case.expected)) or 'nothing'} | {len(runs)} |"
            f" {sum(found) if case.expected else '–'} | {shown} |"
        )
    share = lambda part, whole: f"{part}/{whole} = {part / whole:.2f}" if whole else "–"  # noqa: E731
    return "\n".join(
        [
            *lines,
            "",
            (
                f"Recall {share(hits, fails)}, precision {share(right, warnings)}, over"
                f" {len(results)} runs."
            ),
        ]
    )


if __name__ == "__main__":
    main()
