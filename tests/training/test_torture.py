"""The short form of benchmarks/torture.py: kills, refusing disks and damaged checkpoints, in forks
of one process.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_short_torture(tmp_path):
    """Every life ends with the bytes of the uninterrupted run. The full counts are in
    benchmarks/results/torture.json.
    """
    arguments = [
        "kills",
        "boundaries",
        "full",
        "read-only",
        "mutants",
        "--kills",
        "4",
        "--every",
        "37",
        "--mutants",
        "60",
    ]
    done = subprocess.run(
        [
            sys.executable,
            str(ROOT / "benchmarks/torture.py"),
            *arguments,
            "--cases",
            "lora, moving",
            "--output",
            tmp_path / "t.json",
        ],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    results = {
        mode: found["counts"]
        for mode, found in json.loads((tmp_path / "t.json").read_text()).items()
    }
    assert all(mode["wrong"] == [] for mode in results.values())
    assert results["kills"]["killed"] >= 4 and results["boundaries"]["killed"] >= 3
    assert results["full"]["exit 6"] + results["read-only"]["exit 6"] >= 5
    mutants = results["mutants"]
    assert (
        mutants["detected and named"] == mutants["newest good one used"] == mutants["mutants"] == 60
    )
    assert mutants["resumed aloud and bitwise equal"] == mutants["resumed by the command"] == 3
