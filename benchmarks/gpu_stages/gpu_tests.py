"""The tests that need a GPU, counted while they run: what was counted remains if time runs out."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter

from gpu_stages.plan import ROOT
from gpu_stages.tasks import Given

# A line of a test: "tests/gpu/test_head.py::test_x[y] PASSED   [ 10%]"
LINE = re.compile(r"^(tests/\S.*?) (PASSED|FAILED|ERROR|SKIPPED|XFAIL|XPASS)\b")


def run(given: Given) -> None:
    """
    Raises:
      SystemExit: pytest says that not all is well.
    """
    command = [sys.executable, "-m", "pytest", "-vv", "-m", "gpu", "-p", "no:cacheprovider"]
    process = subprocess.Popen(
        [*command, "tests/gpu"],
        cwd=ROOT,
        env={**os.environ, "ACCORD_GPU_TESTS_ON": given.device},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    counts, failed = Counter(), []
    assert process.stdout is not None
    for line in process.stdout:
        print(line, end="", flush=True)
        if outcome := LINE.match(line):
            counts[outcome[2].lower()] += 1
            failed += [outcome[1]] if outcome[2] in ("FAILED", "ERROR") else []
            given.emit(counts=counts, failed=failed)
    if code := process.wait():
        raise SystemExit(f"pytest ended with {code}")
