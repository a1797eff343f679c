"""A short form of benchmarks/round_trips.py, with another seed."""

import importlib
import random
from pathlib import Path

import pytest


@pytest.fixture
def trips(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    return importlib.import_module("round_trips")


def test_nothing_comes_back_changed(trips):
    """Every route between formats, every container; formats that hold every pair refuse none."""
    rng = random.Random(1)
    routes, containers = trips.tried(trips.random_pair(rng, line) for line in range(40))
    assert not [name for name, found in routes.items() if "CHANGED" in found]
    assert set(containers.values()) == {"equal"}
    whole = ("trl-conversational", "sharegpt", "openai")
    assert all(routes[f"{a} → {b}"] == {"equal": 40} for a in whole for b in whole)
    assert all(found.get("equal") for found in routes.values()), "every route carries something"


def test_a_change_is_noticed(trips, monkeypatch):
    """A writer that strips its text would be seen."""
    (pair,) = [trips.Pair((trips.Turn("user", "q"),), "a", "b ", trips.Origin("f", 1))]
    assert trips.through_formats(pair, "openai")["sharegpt"] == "equal"
    real = trips._understood
    stripped = [trips.Pair(pair.prompt, "a", "b", pair.origin)]
    monkeypatch.setattr(
        trips, "_understood", lambda row, kind: stripped if kind == "pairs" else real(row, kind)
    )
    assert trips.through_formats(pair, "openai")["sharegpt"] == "CHANGED"
