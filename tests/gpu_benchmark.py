"""What both tests of benchmarks/gpu.py need: its modules, and a stage."""

from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(autouse=True)
def beside(monkeypatch):
    """Scripts of benchmarks find each other by their names."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def stage(name):
    from gpu_stages.plan import STAGES

    return next(stage for stage in STAGES if stage.name == name)
