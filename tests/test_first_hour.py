"""benchmarks/first_hour.py: its steps are commands that there are, a step that goes wrong is seen,
and its result is rendered. The whole of it is run by hand.
"""

from __future__ import annotations

import json
import os
import re
import shlex
from pathlib import Path

import pytest
import typer
from docs.test_commands import typed_badly

from accord.cli.app import app
from benchmarks import first_hour, render_results
from benchmarks.first_hour import Step

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = typer.main.get_command(app).commands
TYPED = [
    (step, shlex.split(step.typed[step.typed.index("accord ") :]))
    for step in first_hour.SHELL
    if re.match(r"accord |echo ", step.typed)
]


@pytest.mark.parametrize("step, words", TYPED, ids=lambda value: str(value)[:40])
def test_each_step_is_a_command_that_can_be_typed_and_that_the_readme_names(step, words):
    assert not typed_badly(step.typed)
    assert step.needs in ("", words[1])
    if words[1] in COMMANDS:
        COMMANDS[words[1]].make_context(words[1], words[2:])
    if words[1] in COMMANDS and not step.needs:
        assert re.search(rf"`?accord {words[1]}\b", README), f"not in README.md: {words[1]}"


def test_the_steps_lead_from_a_clone_to_a_model_elsewhere():
    names = [words[1] for _, words in TYPED]
    assert names == "audit audit split train chat report export".split()
    assert first_hour.SHELL[0].typed.startswith("git clone")
    assert "transformers" in first_hour.SHELL[-1].typed


def test_the_file_has_odd_names_and_a_column_that_nothing_reads(tmp_path):
    own = tmp_path / "mine.jsonl"
    own.write_text(first_hour.own_file(first_hour.SHIPPED))
    rows = [json.loads(line) for line in own.read_text().splitlines()]
    assert len(rows) == 335 and set(rows[0]) == {"question", "better", "worse", "notes"}
    assert len({row["notes"] for row in rows}) == len(rows)


def test_cells_run_in_one_process_and_stop_at_the_first_fault(tmp_path, monkeypatch):
    (tmp_path / "accord/.venv/bin").mkdir(parents=True)
    os.symlink(first_hour.sys.executable, tmp_path / "accord/.venv/bin/python")
    cells = (
        Step("x = 3"),
        Step("print(x)", 0, "3"),
        Step("never()", needs='hasattr(str, "nothing")'),
        Step("print(x + 1)", 0, "5"),
        Step("1 / 0"),
        Step("print('not reached')"),
    )
    monkeypatch.setattr(first_hour, "CELLS", cells)
    found = list(first_hour._python(tmp_path))
    assert [(step["exit"], step["ok"]) for step, _ in found] == [
        (0, True),
        (0, True),
        (None, True),
        (0, False),  # its words are not there
        (1, False),
    ]
    assert "ZeroDivisionError" in found[-1][1]


def test_a_line_is_run_as_bash_reads_it(tmp_path):
    environment = {"PATH": os.environ["PATH"]}
    assert first_hour._bash("echo a b | tr a c", tmp_path, environment) == (0, "c b\n")
    code, output = first_hour._bash("echo out; echo err >&2; false | cat", tmp_path, environment)
    assert (code, output) == (1, "out\nerr\n")


def result(seconds: float = 10.0, **changed) -> dict:
    step = {"typed": "accord audit mine.jsonl", "exit": 3, "seconds": seconds, "ok": True}
    cell = {"typed": "import accord\naccord.x", "exit": None, "seconds": 0.0, "ok": True}
    return {
        "machine": {"cores": 2},
        "limit_minutes": 12,
        "shell": [step | changed],
        "python": [cell],
        "seconds": {"shell": seconds, "python": 0.0},
    }


def test_a_fault_is_seen():
    assert first_hour.faults(result()) == []
    assert first_hour.faults(result(ok=False)) == ["exit 3: accord audit mine.jsonl"]
    assert first_hour.faults(result(721)) == ["more than 12 minutes of commands"]
    step = Step("x", 3, "type this")
    assert first_hour._record(step, 3, 0.0, "now type this")["ok"]
    assert not first_hour._record(step, 3, 0.0, "nothing")["ok"]
    assert not first_hour._record(step, 0, 0.0, "type this")["ok"]
    assert not first_hour._record(step, 3, 0.0, "type this\nTraceback (most …")["ok"]


def test_its_result_is_rendered(tmp_path):
    file = tmp_path / "first_hour.json"
    file.write_text(json.dumps(result(ok=False)))
    made = render_results.render(file)
    assert "| `accord audit mine.jsonl` | 10.0 | 3 |" in made
    assert "| `import accord ⏎ accord.x` | 0.0 | left out |" in made
    assert "| in all | 0:10 minutes | |" in made and "✗ exit 3" in made


def test_the_log_shows_each_step_with_the_end_of_its_output():
    step = result()["shell"][0]
    text = first_hour.log([(step, "".join(f"line {i}\n" for i in range(30)))])
    assert text.startswith("$ accord audit mine.jsonl\n[6 lines]\nline 6\n")
    assert text.endswith("line 29\n[exit 3, 10 s; 10 s since the beginning]\n")
