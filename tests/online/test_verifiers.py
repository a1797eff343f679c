"""Rewards by packages of others: math-verify and reasoning-gym. Stand-ins with the calls that are
made of them; the packages themselves where they are installed.
"""

import importlib.util
import json
import sys

import pytest
from typer.testing import CliRunner

from accord.cli.app import app
from accord.rewards import procedural, symbolic
from accord.rewards.load import load_rewards
from accord.types import Turn, UsageError

MATH = """
def parse(text, parsing_timeout):
    assert parsing_timeout == 2
    inner = text.replace("$", "").removeprefix("\\\\boxed{").removesuffix("}")
    try:
        return [eval(inner, {"__builtins__": {}}), inner]
    except Exception:
        return [inner] if inner else []

def verify(gold, got, timeout_seconds):
    assert timeout_seconds == 2
    return any(g == a for g in gold for a in got)
"""
GYM = """
from types import SimpleNamespace
import reasoning_gym.factory
def create_dataset(name, *, size, seed, **options):
    if options: raise TypeError(f"unexpected keyword {options}")
    class Set:
        def __getitem__(self, i):
            return {"question": f"{seed} + {i}?\\n", "answer": str(seed + i), "metadata": {1: (2,)}}
        def score_answer(self, answer, entry):
            assert entry["metadata"] == {1: (2,)}
            return float(int(answer) == int(entry["answer"]))
    return Set()
"""


@pytest.fixture
def packages(tmp_path, monkeypatch):
    """Stand-ins on the path of this process and of the one that judges."""
    (tmp_path / "math_verify.py").write_text(MATH)
    (tmp_path / "reasoning_gym").mkdir()
    (tmp_path / "reasoning_gym/__init__.py").write_text(GYM)
    (tmp_path / "reasoning_gym/factory.py").write_text("DATASETS = {'adding': 0}")
    monkeypatch.syspath_prepend(tmp_path)
    fresh = ("math_verify", "reasoning_gym", "reasoning_gym.factory")
    for name in fresh:
        monkeypatch.delitem(sys.modules, name, raising=False)
    symbolic._right.cache_clear()
    procedural._set.cache_clear()
    yield
    for name in fresh:
        sys.modules.pop(name, None)
    symbolic._right.cache_clear()
    procedural._set.cache_clear()


def asked(name, answers, rows):
    prompts = [(Turn("user", row.get("prompt", "?")),) for row in rows]
    return load_rewards([name])(prompts, answers, rows)


def test_mathematics_is_judged_in_its_process_and_reasons_come_back(packages):
    rows = [
        {"answer": "1/2"},
        {"answer": "half of 48\n#### 72"},
        {"solution": "(1,2)"},
        {"answer": "1/2"},
        {},
        {"answer": ""},
    ]
    found = asked("math_verify", ["0.5", "72", "(1,2)", "0.6", "1", "1"], rows)
    assert found.values[:4].tolist() == [1, 1, 1, 0]
    assert found.failures == {
        4: "math_verify: the row has no right answer",
        5: "math_verify: the row's right answer is no mathematics",
    }


def test_tasks_are_made_again_where_they_are_judged(packages):
    """Also by a verifier that raises at words, and keeps what JSON would have changed."""
    rows = json.loads(json.dumps(list(procedural.task_rows("adding", 3, 2, {}))))
    assert rows[1]["reasoning_gym"] == {
        "name": "adding",
        "seed": 2 * procedural.APART,
        "size": 3,
        "index": 1,
        "options": {},
    }
    right = [row["answer"] for row in rows]
    other = {**rows[0], "prompt": "what another release asks"}
    broken = {**rows[0], "reasoning_gym": {"name": "adding"}}
    found = asked(
        "reasoning_gym",
        [right[0], f"<answer>1</answer> no: <answer> {right[1]}</answer>", "words", "1", "1", "1"],
        [*rows, other, broken, {}],
    )
    assert found.values[:3].tolist() == [1, 1, 0]
    assert [found.failures[i].partition(": ")[2] for i in (3, 4, 5)] == [
        "the task of this seed is another one: made by another release",
        "the task cannot be made again (KeyError)",
        "the row has no column reasoning_gym",
    ]


def test_a_verifier_that_raises_at_its_own_answer_judges_nothing(packages, monkeypatch):
    (row,) = procedural.task_rows("adding", 1, 0, {})
    made = procedural._set(
        json.dumps({k: v for k, v in row["reasoning_gym"].items() if k != "index"}, sort_keys=True)
    )
    monkeypatch.setattr(type(made), "score_answer", lambda self, answer, entry: 1 / 0)
    (found,) = procedural.reasoning_gym([row["prompt"]], ["0"], [row])
    assert found == "the task's verifier raised ZeroDivisionError"


def test_seeds_share_no_task(packages):
    one, two = (list(procedural.task_rows("adding", 50, seed, {})) for seed in (0, 1))
    assert not {row["prompt"] for row in one} & {row["prompt"] for row in two}


def test_the_command_writes_prompts(packages, tmp_path):
    def tasks(*words):
        result = CliRunner().invoke(app, ["tasks", *map(str, words)])
        return result.exit_code, result.output

    out = tmp_path / "out/prompts.jsonl"
    code, said = tasks("adding", "--size", 2, "--output", out)
    assert code == 0 and "2 tasks of adding" in said and "rewards=[reasoning_gym]" in said
    assert [json.loads(line)["answer"] for line in out.read_text().splitlines()] == ["0", "1"]
    assert tasks()[0] == 0 and "1 task set" in tasks()[1]
    for words, says in (
        (("ading", "--output", out), "Did you mean adding?"),
        (("adding",), "Name the file to write"),
        (("adding", "--output", out), "exists"),
        (("adding", "--output", tmp_path / "x", "--set", "y=1"), "makes no set 'adding'"),
    ):
        code, said = tasks(*words)
        assert code == 2 and says in said, said


@pytest.mark.parametrize("name", ["math_verify", "reasoning_gym"])
def test_a_package_that_is_missing_is_named_with_its_command(name, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda each: None if each == name else found(each)
    )
    package = name.replace("_", "-")
    with pytest.raises(UsageError, match=f"needs the package {package}.*\n.*install {package}"):
        load_rewards([name])


# ---------------------------------------------------------------- the packages themselves

SAME = [
    ("1/2", "0.5", 1),
    ("\\frac12", "The answer is \\boxed{0.5}", 1),
    ("\\{1,2\\}", "so $\\{2,1\\}$", 1),
    ("10 cm", "\\boxed{10\\text{ cm}}", 1),
    ("48/2 = <<48/2=24>>24\n#### 72", "The answer is 72.", 1),
    ("1,234", "1234", 1),
    ("x^2+2x+1", "$(x+1)^2$", 1),
    ("(1,2)", "\\boxed{(1,2)}", 1),
    ("(1,2)", "\\boxed{(1,3)}", 0),
    ("2x+1", "1", 0),
    ("3", "\\boxed{3} or \\boxed{4}", 0),
    ("0.333", "1/3", 0),
    ("\\pi", "3.14", 0),
    ("72", "no idea", 0),
]


def test_math_verify_itself():
    pytest.importorskip("math_verify", reason="math-verify is not installed")
    rows = [{"answer": right} for right, _, _ in SAME]
    found = symbolic.math_verify([""] * len(SAME), [given for _, given, _ in SAME], rows)
    assert found == [wanted for _, _, wanted in SAME]


def test_reasoning_gym_itself():
    pytest.importorskip("reasoning_gym", reason="reasoning-gym is not installed")
    rows = json.loads(json.dumps(list(procedural.task_rows("leg_counting", 3, 0, {}))))
    prompts, right = [r["prompt"] for r in rows], [r["answer"] for r in rows]
    assert procedural.reasoning_gym(prompts, right, rows) == [1, 1, 1]
    assert max(procedural.reasoning_gym(prompts, ["none"] * 3, rows)) < 0.1
