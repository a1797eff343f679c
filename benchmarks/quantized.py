"""Held-out accuracy of DPO on a quantised base beside the same run on the base as it is, and the
bytes of the weights.

    python benchmarks/quantized.py --data DIR [--updates 32] [--batch 16] [--only "nf4; int8"]

DIR holds truthfulqa/ (see BENCHMARKS.md). SmolLM2-135M, LoRA, the same rows in the same order and
the same adapters at the start; each run is an `accord train` in a process of its own, and its own
records are the figures. Accuracies have 95 % intervals, clustered by prompt. Both are computed in
bfloat16 where the machine has products in it, and in float32 elsewhere.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

KINDS = {  # what is set beside the run's own settings
    "as it is": [],
    "nf4": ["model.quantize=nf4"],
    "nf4, scales in float32": ["model.quantize={kind: nf4, double: false}"],
    "int8": ["model.quantize=int8"],
}
SETTINGS = ["evaluate.every=0", "checkpoint.every=0", "monitor.samples=0"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--updates", type=int, default=32)
    parser.add_argument("--batch", type=int, default=16, help="pairs an update")
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--held-out-rows", type=int, help="evaluate on so many; default: all")
    parser.add_argument("--only", help=f"of {', '.join(KINDS)}; separated by semicolons")
    parser.add_argument("--output", type=Path, help="a JSON file for the figures")
    options = parser.parse_args()
    asked = [name.strip() for name in options.only.split(";")] if options.only else list(KINDS)
    if unknown := set(asked) - set(KINDS):
        raise SystemExit(f"--only {unknown.pop()}: expected of {', '.join(KINDS)}")
    runs: dict[str, dict] = {}
    settings = {"updates": options.updates, "batch": options.batch}
    settings["held_out_rows"] = options.held_out_rows
    for name in asked:
        runs[name] = measure(KINDS[name], options)
        print(line(name, runs[name]), flush=True)
        if options.output is not None:
            found = settings | {"runs": runs}
            options.output.write_text(json.dumps(found, indent=1) + "\n")


def measure(changes: list[str], options: argparse.Namespace) -> dict:
    """One run in a fresh process."""
    rows = options.data / "truthfulqa"
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        command = [sys.executable, "-m", "accord", "train", "--model", options.model]
        command += ["--data", str(rows / "pairs_train.jsonl")]
        command += ["--held-out", str(rows / "pairs_test.jsonl"), "--method", "dpo"]
        command += [
            "--steps",
            str(options.updates),
            "--batch-size",
            str(options.batch),
            "--output",
            str(run),
        ]
        few = options.held_out_rows
        rows_of_it = [] if few is None else [f"evaluate.rows={few}"]
        for setting in (*SETTINGS, *rows_of_it, *changes):
            command += ["--set", setting]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return figures(run)


def figures(run: Path) -> dict:
    """Read a run's records: its base, its accuracy and its time."""
    found = {f["check"]: f for f in json.loads((run / "preflight.json").read_text())}
    evaluated = [one for one in lines(run / "metrics.jsonl") if "eval_rewards/accuracies" in one]
    timings = lines(run / "timings.jsonl")
    quantised = found.get("model.quantize", {}).get("evidence", {})
    last = evaluated[-1]
    return {
        "accuracy": {
            "value": last["eval_rewards/accuracies"],
            "low": last["diag/eval_accuracy_low"],
            "high": last["diag/eval_accuracy_high"],
        },
        "eval_loss": last["eval_loss"],
        "weights": {
            name: quantised.get(name) for name in ("bits", "bytes", "bytes_before", "error")
        },
        "seconds": sum(one["seconds"] for one in timings),
        "rss": max(one["rss"] for one in timings),
    }


def lines(file: Path) -> list[dict]:
    return [json.loads(text) for text in file.read_text().splitlines()]


def line(name: str, one: dict) -> str:
    shown, weights = one["accuracy"], one["weights"]
    says = f"{name}: accuracy {shown['value']:.3f} [{shown['low']:.3f}, {shown['high']:.3f}]"
    says += f", loss {one['eval_loss']:.4f}, {one['seconds']:.0f} s of updates"
    says += f", {one['rss'] / 1e9:.2f} GB at the end of an update"
    if weights["bytes"]:
        share = weights["bytes"] / weights["bytes_before"]
        says += f", weights {weights['bytes'] / 1e6:,.0f} MB, {share:.2f} of those as they are"
    return says


if __name__ == "__main__":
    main()
