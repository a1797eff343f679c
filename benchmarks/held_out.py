"""Held-out accuracy of each method on real preference data, one `accord train` after the other.

    python benchmarks/held_out.py --data DIR [--only dpo,ipo] [--set truthfulqa]

DIR holds truthfulqa/ and hh_helpful/ (see BENCHMARKS.md). The length baseline (prefer the longer
answer) is computed on the very rows that are evaluated. Results go to
benchmarks/results/held_out_<set>.json, one entry a method; an entry that is there already is
measured again and replaced.
"""

from __future__ import annotations

import argparse
import gzip
import json
import subprocess
import sys
import tempfile
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
SETS = {  # flags of a method, or of all others
    "truthfulqa": {
        "pairs": "truthfulqa/pairs_train.jsonl",
        "labels": "truthfulqa/kto_train.jsonl.gz",
        "held_out": "truthfulqa/pairs_test.jsonl",
        "dpo": ["--epochs", "1", "--batch-size", "16"],
        "ipo": ["--steps", "96", "--batch-size", "16"],
        "kto": ["--steps", "64", "--batch-size", "32"],
        "simpo": ["--steps", "64", "--batch-size", "16"],
        "orpo": ["--steps", "40", "--batch-size", "16"],
    },
    "hh_helpful": {
        "pairs": "hh_helpful/train.jsonl.gz",
        "held_out": "hh_helpful/test.jsonl.gz",
        "dpo": [
            "--steps",
            "24",
            "--batch-size",
            "8",
            "--set",
            "evaluate.rows=160",
            "--set",
            "data.max_tokens=512",
            "--set",
            "data.max_too_long=0.3",
        ],
    },
}
METHODS = ("dpo", "ipo", "kto", "simpo", "orpo")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--set", choices=SETS, default="truthfulqa")
    parser.add_argument("--only", help="methods, separated by commas")
    options = parser.parse_args()
    plan = SETS[options.set]
    file = RESULTS / f"held_out_{options.set}.json"
    results = json.loads(file.read_text()) if file.exists() else {}
    for method in options.only.split(",") if options.only else [m for m in METHODS if m in plan]:
        results[method] = measure(plan, options.data, method)
        results["longer answer wins"] = length_baseline(options.data / plan["held_out"])
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(results, indent=1) + "\n")
        print(method, json.dumps(results[method]["accuracy"]), flush=True)


def measure(plan: dict, data: Path, method: str) -> dict:
    """One run in a fresh process; its own records are the figures."""
    train = data / (plan["labels"] if method == "kto" and "labels" in plan else plan["pairs"])
    flags = plan[method]
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        command = [
            "accord",
            "train",
            "--data",
            str(train),
            "--held-out",
            str(data / plan["held_out"]),
            "--method",
            method,
            "--set",
            "evaluate.every=0",
            "--set",
            "checkpoint.every=0",
            *flags,
        ]
        full = [
            str(Path(sys.executable).parent / "accord"),
            *command[1:],
            "--output",
            str(run),
            "--json",
        ]
        process = subprocess.run(full, stdout=subprocess.PIPE, text=True)
        report = json.loads(process.stdout.splitlines()[-1])
        if not report["ok"]:
            raise SystemExit(f"{method}: {report['says']}")
        timings = [json.loads(line) for line in (run / "timings.jsonl").read_text().splitlines()]
        before, after = report["result"]["before"], report["result"]["after"]
        seconds = sorted(entry["seconds"] for entry in timings)
        return {
            "command": " ".join(part.replace(str(data), "$DATA") for part in command),
            "accuracy": after["eval_rewards/accuracies"],
            "interval": [after["diag/eval_accuracy_low"], after["diag/eval_accuracy_high"]],
            "accuracy_before": before["eval_rewards/accuracies"],
            "margin": after["eval_rewards/margins"],
            "logps_chosen": [before["eval_logps/chosen"], after["eval_logps/chosen"]],
            "steps": len(timings),
            "median_seconds_a_step": seconds[len(seconds) // 2],
            "peak_rss_gb": max(entry["rss"] for entry in timings) / 1e9,
        }


def length_baseline(file: Path) -> float:
    """Share of pairs whose chosen answer is the longer text; ties half."""
    text = gzip.decompress(file.read_bytes()).decode() if file.suffix == ".gz" else file.read_text()
    rows = [json.loads(line) for line in text.splitlines()]
    scores = [
        (len(r["chosen"]) > len(r["rejected"])) + 0.5 * (len(r["chosen"]) == len(r["rejected"]))
        for r in rows
    ]
    return sum(scores) / len(scores)


if __name__ == "__main__":
    main()
