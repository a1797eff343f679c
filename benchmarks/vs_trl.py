"""accord against TRL: same rows, same token ids, same hyper-parameters, fresh processes one after
the other.

    pip install -e .[bench]
    python benchmarks/vs_trl.py --data DIR [--only "NAME; …"] [--repeats 3]

For each case: 1. both train a few rows in float32 and must report the same log-probs and losses to
1e-4, or no speed is reported; 2. TRL's settings (micro-batch, activation checkpointing) are tried
for one update each and its fastest is taken; 3. accord and TRL take turns, `repeats` times. The
first update of each process is left out. Peak memory is the whole process's, with everything that
it loads. The machine's own matrix-multiplication rate is measured in the same run. Results:
benchmarks/results/vs_trl.json.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from model_shapes import SHAPES

HERE = Path(__file__).parent
RESULT = HERE / "results/vs_trl.json"
TOLERANCE = 1e-4  # of losses and summed log-probs, float32
RELATIVE = 1e-6  # of a log-prob of hundreds of nats


@dataclass(frozen=True)
class Case:
    """One row of the table."""

    file: str
    method: str = "dpo"
    batch: int = 8  # rows an update
    max_tokens: int = 512
    dtype: str = "bfloat16"
    all_weights: bool = False
    shape: str = ""  # of a model with random weights (model_shapes.py); the embedded one without
    goal_speed: float = 0.0  # times TRL's rows a second
    goal_memory: float = 0.0  # of TRL's peak


CASES = {
    "hh_harmless dpo LoRA bf16": Case(
        "hh_harmless/transcripts.jsonl.gz", goal_speed=14, goal_memory=0.25
    ),
    "hh_harmless dpo all weights bf16": Case(
        "hh_harmless/transcripts.jsonl.gz", all_weights=True, goal_speed=6, goal_memory=0.5
    ),
    "hh_harmless dpo LoRA float32": Case(
        "hh_harmless/transcripts.jsonl.gz", dtype="float32", goal_speed=9, goal_memory=0.33
    ),
    "truthfulqa dpo LoRA bf16": Case(
        "truthfulqa/pairs_train.jsonl", batch=16, goal_speed=6, goal_memory=0.3
    ),
    "truthfulqa dpo LoRA float32": Case(
        "truthfulqa/pairs_train.jsonl", batch=16, dtype="float32", goal_speed=6, goal_memory=0.3
    ),
    "ultrafeedback dpo LoRA bf16": Case(
        "ultrafeedback_small/pairs_train.jsonl.gz", max_tokens=1024, goal_speed=8, goal_memory=0.25
    ),
    "truthfulqa kto LoRA bf16": Case(
        "truthfulqa/kto_train.jsonl.gz", "kto", 16, goal_speed=5, goal_memory=0.3
    ),
    "hh_helpful orpo LoRA bf16": Case(
        "hh_helpful/train.jsonl.gz", "orpo", goal_speed=5, goal_memory=0.3
    ),
} | {
    # the share of elementwise work falls with the width
    f"truthfulqa dpo LoRA bf16, {shape}": Case(
        "truthfulqa/pairs_train.jsonl", batch=16, shape=shape, goal_speed=6, goal_memory=0.3
    )
    for shape in SHAPES
}

# What TRL can be run with on a CPU: micro-batches in rows, accumulated up to the batch; activation
# checkpointing is its own default. Weights are loaded in the case's dtype; float32 weights under
# bfloat16 autocast were slower (29.7 s against 22.2 an update of truthfulqa) and are not tried
# again. Precomputed reference log-probs would save TRL a forward pass and cost it one before: in a
# single pass over the data nothing is won.
SETTINGS = {
    f"{micro} rows a micro-batch{', activation checkpointing' if checkpointing else ''}": {
        "micro": micro,
        "checkpointing": checkpointing,
    }
    for micro, checkpointing in (("all", False), (2, False), ("all", True))
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--only", help="cases, separated by semicolons")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--settings", help="those of TRL to try, separated by semicolons; all where none is named"
    )
    parser.add_argument(
        "--updates", type=int, default=3, help="updates of a process; the first is left out"
    )
    parser.add_argument("--output", type=Path, default=RESULT)
    options = parser.parse_args()
    results = json.loads(options.output.read_text()) if options.output.exists() else {}
    for name in cases(options.only):
        with tempfile.TemporaryDirectory() as folder:
            results[name] = measure(CASES[name], options.data, Path(folder), options)
        options.output.write_text(json.dumps(results, indent=1) + "\n")
        print(row(name, CASES[name], results[name]), flush=True)


def cases(only: str | None) -> list[str]:
    """The cases asked for, or all. Raises SystemExit for one that is not in the table."""
    names = [name.strip() for name in only.split(";")] if only else list(CASES)
    if unknown := [name for name in names if name not in CASES]:
        raise SystemExit(f"no case {unknown[0]!r}; there are: {'; '.join(CASES)}")
    return names


def measure(case: Case, data: Path, folder: Path, options: argparse.Namespace) -> dict:
    """Everything about one case."""
    facts = child(
        "accord_side.py",
        "prepare",
        case,
        folder,
        data=str(data / case.file),
        updates=options.updates,
    )
    agreement = compare(case, folder)
    updates = options.updates
    wanted = options.settings.split(";") if options.settings else settings(case)
    tried = {
        name: trl(case, folder, setting, 2)
        for name, setting in settings(case).items()
        if name in wanted
    }
    if len(tried) < len(wanted):
        raise SystemExit(f"--settings: expected some of {'; '.join(settings(case))}")
    working = {name: found for name, found in tried.items() if "error" not in found}
    best = min(working, key=lambda name: statistics.median(working[name]["seconds"][1:]))
    setting = settings(case)[best]
    ours, theirs = [], []
    gemm = [child("accord_side.py", "gemm", case, folder)]
    for _ in range(options.repeats):
        ours.append(child("accord_side.py", "train", case, folder, updates=updates))
        gemm.append(child("accord_side.py", "gemm", case, folder))
        theirs.append(trl(case, folder, setting, updates))
    return summary(case, facts, agreement, tried, best, ours, theirs, gemm)


def settings(case: Case) -> dict[str, dict]:
    """TRL's settings that make sense for a case: KTO needs its whole batch at once for its
    baseline.
    """
    found = dict(SETTINGS)
    if case.method == "kto":
        found = {name: s for name, s in found.items() if s["micro"] == "all"}
    return found


def compare(case: Case, folder: Path) -> dict:
    """Log-probs and losses of the first rows, in float32, over three updates. Raises SystemExit
    when they differ.
    """
    ours = child("accord_side.py", "check", case, folder)["metrics"]
    theirs = child(
        "trl_side.py", "check", case, folder, setting={"micro": "all", "checkpointing": False}
    )
    pairs = list(zip(ours, theirs["metrics"], strict=True))
    apart = {name: max(abs(a[name] - b[name]) for a, b in pairs) for name in ours[0]}
    # false for NaN
    equal = all(
        abs(a[name] - b[name]) <= max(TOLERANCE, RELATIVE * abs(a[name]))
        for a, b in pairs
        for name in a
    )
    if len(ours) != len(theirs["metrics"]) or not equal:
        raise SystemExit(
            f"{case}: accord and TRL disagree, {apart}; no speed is"
            f" reported.\n{ours}\n{theirs['metrics']}"
        )
    return {"updates": len(ours), "apart": apart, "accord": ours, "trl": theirs["metrics"]}


def trl(case: Case, folder: Path, setting: dict, updates: int) -> dict:
    return child("trl_side.py", "train", case, folder, setting=setting, updates=updates)


def child(script: str, task: str, case: Case, folder: Path, **more) -> dict:
    """One task in a fresh process; its last line is its answer."""
    spec = json.dumps({"case": vars(case), "folder": str(folder), **more})
    environment = {
        **os.environ,
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        "TRL_EXPERIMENTAL_SILENCE": "1",
    }
    done = subprocess.run(
        [sys.executable, str(HERE / script), task, spec],
        capture_output=True,
        text=True,
        env=environment,
    )
    if done.returncode:
        if task == "train" and script == "trl_side.py":
            return {
                "error": (
                    done.stderr.strip().splitlines()[-1][:200]
                    if done.stderr.strip()
                    else f"exit {done.returncode}"
                )
            }
        raise SystemExit(f"{script} {task} failed ({done.returncode}):\n{done.stderr[-4000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def summary(case, facts, agreement, tried, best, ours, theirs, gemm) -> dict:
    """The figures of a case, and the ratios with their spread over the repeats."""

    def side(runs: list[dict]) -> dict:
        seconds = [statistics.median(run["seconds"][1:]) for run in runs]
        return {
            "seconds_an_update": seconds,
            "rows_a_second": [case.batch / s for s in seconds],
            "unique_tokens_a_second": [facts["tokens_an_update"] / s for s in seconds],
            "peak_gb": [run["peak_gb"] for run in runs],
        }

    one, other = side(ours), side(theirs)
    speed = sorted(
        b / a for a, b in zip(one["seconds_an_update"], other["seconds_an_update"], strict=True)
    )
    memory = sorted(a / b for a, b in zip(one["peak_gb"], other["peak_gb"], strict=True))
    rates = [g["flops_a_second"] for g in gemm]
    useful = [facts["flops_an_update"] / s for s in one["seconds_an_update"]]
    return {
        "speed": speed,
        "memory": memory,
        "accord": one,
        "trl": other,
        "trl_setting": best,
        "trl_settings_tried": {
            n: t.get("error") or statistics.median(t["seconds"][1:]) for n, t in tried.items()
        },
        "gemm_gflops": [r / 1e9 for r in rates],
        "useful_gflops": [u / 1e9 for u in useful],
        "share_of_gemm_rate": [u / max(rates) for u in useful],
        "agreement_float32": agreement["apart"],
        "facts": facts,
        "goal": [case.goal_speed, case.goal_memory],
    }


def row(name: str, case: Case, result: dict) -> str:
    """A line of the table in BENCHMARKS.md."""
    middle = {
        key: statistics.median(result[key]) for key in ("speed", "memory", "share_of_gemm_rate")
    }
    spread = f"{result['speed'][0]:.1f} to {result['speed'][-1]:.1f}"
    seconds = [statistics.median(result[side]["seconds_an_update"]) for side in ("accord", "trl")]
    gigabytes = [statistics.median(result[side]["peak_gb"]) for side in ("accord", "trl")]
    return (
        f"| {name} | **{middle['speed']:.1f} ×** ({spread}) | ≥ {case.goal_speed:g} × |"
        f" **{middle['memory']:.2f}** | ≤ {case.goal_memory:g} | {seconds[0]:.2f} against"
        f" {seconds[1]:.2f} s | {gigabytes[0]:.1f} against {gigabytes[1]:.1f} GB |"
        f" {middle['share_of_gemm_rate']:.0%} | {result['trl_setting']} |"
    )


if __name__ == "__main__":
    main()
