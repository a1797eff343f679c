"""Every example runs, at tiny size, and shows what its header says."""

from __future__ import annotations

import json
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import assert_no_faults
from making.monitoring import METRICS, described

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
SCRIPTS = sorted(path for path in EXAMPLES.iterdir() if re.match(r"\d{3}_", path.name))

# What must stand in an example's output: it did what it promises, beyond ending without an error.
SHOWS = {
    "101": r"held-out accuracy 0\.500 → .*(?s:.)*refused: .*did you mean 'beta'",
    "102": r"in 2 updates\n\d+ checks(?s:.)*before: ['\"](?s:.)*after: ['\"]",
    "201": (
        r"verdict: (?s:.)*contradict(?s:.)*(same as an earlier row|another row says the opposite)"
    ),
    "202": r"32 to train on, 8 held out, 0 unusable\n(?s:.)*Is rain wet\?",
    "301": r"orpo .* nats\n(?s:.)*kto .* nats\n(?s:.)*sft .* nats",
    "302": r"2 updates with an objective of your own",
    "303": r"z0: \[0\.0, \d",
    "304": (
        r"adapter_off +last loss .*\nfrozen +last loss .*\ncached +last loss .*\nmoving +last loss"
    ),
    "305": r"0\.02 (?s:.)*0\.5 ",
    "401": r"identical: True",
    "402": r"stopped: |before a rule could be sure",
    "403": r"report.*kB\nwatched: .*a-run",
    "404": r"done: (?s:.)*metrics\.jsonl",
    "501": r"grpo +reward -\d(?s:.)*dpo +reward -\d",
    "405": r"merged into (?s:.)*difference of a logit: (0\.0e\+00|\d\.\de-0[4-9])",
}

# all of them would take half of the tests' time
ARGUMENTS = {"301": ("orpo", "kto", "sft"), "305": ("0.02", "0.5")}


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    """One folder for all of them: those that look at a run share it."""
    return tmp_path_factory.mktemp("examples")


@pytest.fixture
def tiny(output, tiny_folder, monkeypatch):
    """The examples' settings for two updates of the tests' model."""
    monkeypatch.setenv("ACCORD_EXAMPLE_MODEL", str(tiny_folder))
    monkeypatch.setenv("ACCORD_EXAMPLE_STEPS", "2")
    monkeypatch.setenv("ACCORD_EXAMPLE_OUTPUT", str(output))
    monkeypatch.syspath_prepend(str(EXAMPLES))
    yield
    for name in ("settings", "my_loss"):
        sys.modules.pop(name, None)


def name_of(path: Path) -> str:
    return path.name


def run(script: Path, capsys) -> str:
    """The example's output; Python in this process, which saves what torch takes to import."""
    if script.suffix == ".py":
        runpy.run_path(str(script), run_name="__main__")
        return capsys.readouterr().out
    done = subprocess.run(
        ["bash", str(script)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHON": sys.executable, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("script", SCRIPTS, ids=name_of)
def test_example_runs_and_shows_what_it_says(script, tiny, output, capsys, monkeypatch):
    if script.name.startswith("403"):
        pytest.importorskip("fastapi")
    monkeypatch.setattr(sys, "argv", [script.name, *ARGUMENTS.get(script.name[:3], ())])
    shown = run(script, capsys)
    assert re.search(SHOWS[script.name[:3]], shown), shown
    if script.name.startswith("304"):  # three ways to the same reference
        losses = [float(loss) for loss in re.findall(r"last loss (\S+)", shown)[:3]]
        assert losses == pytest.approx([losses[0]] * 3, abs=1e-5)
    # what its runs recorded is explained on the site's page of metrics
    assert {described(name) for name in recorded(output)} - {"step"} <= set(METRICS)


def recorded(folder: Path) -> set[str]:
    """Names of all figures in the runs below a folder."""
    files = folder.glob("*/metrics.jsonl")
    return {
        name
        for file in files
        for line in file.read_text(encoding="utf-8").splitlines()
        for name in json.loads(line)
    }


def test_a_file_and_a_folder_are_never_written_over(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("ACCORD_EXAMPLE_OUTPUT", str(tmp_path))
    sys.modules.pop("settings", None)
    from settings import fresh

    (tmp_path / "a.jsonl").touch(), (tmp_path / "b").mkdir()
    assert [Path(fresh(name)).name for name in ("a.jsonl", "b", "c")] == ["a-2.jsonl", "b-2", "c"]


def test_every_example_has_an_expectation():
    assert {script.name[:3] for script in SCRIPTS} == set(SHOWS) and len(SCRIPTS) == len(SHOWS)


def test_headers_say_what_how_long_and_what_to_expect():
    def check(script):
        header = script.read_text(encoding="utf-8")[:1200]
        assert "Shows:" in header and "Takes:" in header and "Expect:" in header

    assert_no_faults(SCRIPTS, check, name_of)


def test_the_embedded_data_has_no_prompt_on_both_sides():
    sides = [
        {
            json.loads(line)["prompt"]
            for line in (EXAMPLES / "data" / name).read_text(encoding="utf-8").splitlines()
        }
        for name in ("train.jsonl", "held_out.jsonl")
    ]
    assert [len(side) for side in sides] == [40, 12] and not sides[0] & sides[1]
