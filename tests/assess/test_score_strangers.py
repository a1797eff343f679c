"""accord score with a stranger's function that does its worst: each way is named, bounded and
counted, and no value goes astray.
"""

import json
import os
import re
import time

import pytest
from conftest import write_rows
from training.helpers import json_lines
from typer.testing import CliRunner

from accord.cli.app import app

STRANGER = """
import itertools, os, sys, time
from decimal import Decimal

class Mute(Exception):
    def __str__(self): raise RuntimeError("no words")

def lengths(answers): return [float(len(a)) for a in answers]
def raises(prompts, answers): raise ValueError("no such luck")
def mute(prompts, answers): raise Mute
def hangs(prompts, answers): time.sleep(600)
def exits(prompts, answers): sys.exit(0)
def gone(prompts, answers): os._exit(0)
def killed(prompts, answers): os.kill(os.getpid(), 9)
def stopped(prompts, answers): os.kill(os.getpid(), 19)
def nothing(prompts, answers): return None
def one(prompts, answers): return 1.0
def few(prompts, answers): return lengths(answers)[1:]
def many(prompts, answers): return lengths(answers) + [1.0]
def endless(prompts, answers): return itertools.count()
def by_name(prompts, answers): return {i: 1.0 for i in range(len(answers))}
def unordered(prompts, answers): return {float(i) for i in range(len(answers))}
def word(prompts, answers): return "1" * len(answers)
def nan(prompts, answers): return [float("nan")] * len(answers)
def huge(prompts, answers): return [10 ** 5000] * len(answers)
def nested(prompts, answers): return [[v] for v in lengths(answers)]
def decimals(prompts, answers): return [Decimal(1)] * len(answers)
def reads(prompts, answers): return [float(input()) for a in answers]
def some(prompts, answers):
    if len(answers[0]) < 2: raise ValueError("too short")
    return lengths(answers)
def alike(prompts, answers): return [2.0] * len(answers)
def by_prompt(prompts, answers): return [float(p[1:]) for p in prompts]
async def later(prompts, answers): return lengths(answers)
"""

GOOD = """
import os, sys, time
import numpy as np

def lengths(answers): return [float(len(a)) for a in answers]
def noisy(prompts, answers):
    print('{"values": [9, 9, 9]}')
    os.write(1, b'{"values": [9, 9, 9]}\\n')
    sys.stdout.flush()
    return lengths(answers)
def closes(prompts, answers):
    sys.stdout.close()
    return lengths(answers)
def forks(prompts, answers):
    "Both of them return."
    os.fork()
    return lengths(answers)
def waits(prompts, answers):
    "The copy returns first."
    child = os.fork()
    if child: os.waitpid(child, 0)
    return lengths(answers)
def leaves(prompts, answers):
    "A child that stays, with all that its parent had open."
    if not os.fork():
        open("left.txt", "a").write(f"{os.getpid()}\\n")
        time.sleep(600)
    return lengths(answers)
def empties(prompts, answers):
    found = lengths(answers)
    answers.clear(), prompts.clear()
    return found
def arrays(prompts, answers): return np.array(lengths(answers), dtype=np.float32)
def scalars(prompts, answers): return [np.float64(v) for v in lengths(answers)]
def lazily(prompts, answers): return (v for v in lengths(answers))
def named(prompts, answers, *, rows):
    return [len(a) * row["times"] for a, row in zip(answers, rows)]
def third(prompts, answers, columns):
    return [len(a) * row["times"] for a, row in zip(answers, columns)]
def offered(prompts, answers, rows=None):
    return [len(a) * row["times"] for a, row in zip(answers, rows)]
"""

FILE = [
    {
        "prompt": f"q{i}",
        "completions": ["a" * (3 * i + j + 1) for j in range(3)],
        "row": {"times": 1},
    }
    for i in range(2)
]
LENGTHS = [[1, 2, 3], [4, 5, 6]]


@pytest.fixture
def scored(tmp_path, monkeypatch):
    """Exit code, the command's JSON and the lines of its file, for a function of the module and its
    options.
    """
    (tmp_path / "stranger.py").write_text(STRANGER)
    (tmp_path / "kinder.py").write_text(GOOD)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    answers = write_rows(tmp_path / "answers.jsonl", FILE)

    def score(name, *options, rows=answers):
        sets = [word for option in options for word in ("--set", f"{name}.{option}")]
        result = CliRunner().invoke(
            app, ["score", rows, "--output", "s.jsonl", "--reward", name, *sets, "--json"]
        )
        said = json.loads(result.stdout.strip().splitlines()[-1])
        return (
            result.exit_code,
            said,
            json_lines(tmp_path / "s.jsonl") if result.exit_code == 0 else None,
        )

    return score


@pytest.mark.parametrize(
    ("name", "reason", "says"),
    [
        ("raises", "raised ValueError", "ValueError: no such luck"),
        ("mute", "raised Mute", "Mute"),
        ("exits", "died", None),
        ("gone", "died", None),
        ("killed", "died", None),
        ("nothing", "raised TypeError", "NoneType"),
        ("one", "raised TypeError", "float"),
        ("few", "wrong number of values", "2 values for 3 answers"),
        ("many", "wrong number of values", "more than 3 values for 3"),
        ("endless", "wrong number of values", "more than 3"),
        ("by_name", "no list of values", "a dict"),
        ("unordered", "no list of values", "a set"),
        ("word", "no list of values", "a str"),
        ("nan", "no finite number", None),
        ("huge", "no finite number", None),
        ("nested", "no finite number", None),
        ("decimals", "no finite number", None),
        ("reads", "raised EOFError", "EOF"),
        ("later", "raised TypeError", "coroutine"),
    ],
)
def test_what_a_function_does_wrong_is_named_and_counted(name, reason, says, scored, tmp_path):
    """No answer has a reward then, so it is an error, in words; nothing is left behind."""
    code, said, _ = scored(f"stranger:{name}")
    assert code == 3 and "none of 6 answers has a reward" in said["says"]
    assert f"6 without a reward: stranger:{name}: {reason}" in said["says"]
    assert "{" not in said["says"] and "Mend the reward" in said["says"]
    assert not (tmp_path / "s.jsonl").exists() and not (tmp_path / "s.jsonl.part").exists()
    told = f"stranger:{name} ({reason}): "
    assert says in said["says"].split(told)[1] if says else told not in said["says"]


def test_some_without_a_reward_and_rewards_alike_are_said(scored):
    code, said, lines = scored("stranger:some")
    result = said["result"]
    assert code == 0 and (result["rewarded"], result["missing"]) == (5, 1)
    assert "1 of 6 answers have no reward" in result["warnings"][0]
    assert "raised ValueError" in result["warnings"][0] and lines[0]["rewards"] == [None, 2, 3]
    assert len(result["warnings"]) == 1


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("alike", "all 6 rewards are 2: they rank no answer above another"),
        ("by_prompt", "the answers to each of 2 prompts have equal rewards"),
    ],
)
def test_rewards_that_rank_nothing_are_said(name, says, scored):
    code, said, _ = scored(f"stranger:{name}")
    assert code == 0 and says in said["result"]["warnings"][0]


@pytest.mark.parametrize("name", ["hangs", "stopped"])
def test_what_never_comes_back_is_bounded(name, scored, tmp_path):
    """Two prompts are counted; of a longer file, the third that is waited for in vain ends the
    command.
    """
    code, said, _ = scored(f"stranger:{name}", "timeout=0.2")
    assert code == 3 and f"6 without a reward: stranger:{name}: timed out" in said["says"]
    code, said, _ = scored(
        f"stranger:{name}", "timeout=0.2", rows=write_rows(tmp_path / "long.jsonl", FILE * 50)
    )
    assert (
        code == 2
        and "on every answer of 3 calls in a row (0.2 s a call)" in said["says"]
        and f"the option stranger:{name}.timeout=" in said["says"]
    )


@pytest.mark.parametrize("name", re.findall(r"^def (\w+)\(prompts", GOOD, re.M))
def test_what_it_does_beside_its_work_moves_no_value(name, scored, tmp_path):
    code, said, lines = scored(f"kinder:{name}")
    assert (
        code == 0
        and [line["rewards"] for line in lines] == LENGTHS
        and said["result"]["missing"] == 0
    )
    left = tmp_path / "left.txt"
    if left.exists():  # what it started ends with it
        assert all(_gone(int(pid)) for pid in left.read_text().split())


def _gone(pid: int) -> bool:
    """Whether a process ends within a few seconds; one that nobody has waited for counts."""
    for _ in range(100):
        try:
            os.kill(pid, 0)
            with open(f"/proc/{pid}/stat") as file:
                if file.read().rpartition(")")[2].split()[0] == "Z":
                    return True
        except (ProcessLookupError, FileNotFoundError):
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("kinder:noisy", ["bogus=1"], "unexpected keyword argument 'bogus'"),
        ("kinder:noisy", ["timeout=0"], "expected seconds above 0"),
        ("kinder:noisy", ["timeout=soon"], "expected seconds"),
        ("kinder:lengths", [], "cannot be called as lengths(prompts, answers"),
        ("kinder:absent", [], "no function 'absent'"),
        ("format", ["pattern=("], "no regular expression"),
        ("format", ["pattern=a", "timeout=0"], "expected seconds"),
        ("format", ["pattern=a{99999999999999999999}"], "no regular expression"),
        ("format", ["pattern=a", "whole=perhaps"], "expected bool"),
        ("final_answer", ["tolerance=near"], "expected float"),
        ("final_answer", ["tolerance=-1"], "at least 0"),
        ("final_answer", ["tolerance=.nan"], "at least 0"),
        ("final_answer", ["column=3"], "expected str"),
        ("too_long", ["limit=0"], "at least 1"),
        ("too_long", ["slack=0"], "at least 1"),
        ("too_long", ["limit=many"], "expected int"),
        ("constraints", ["strict='no'"], "expected bool"),
        ("length", ["words=3"], "no option 'words'"),
        ("vader", ["x=3"], "has no option"),
    ],
)
def test_options_that_would_do_nothing_or_fail_later_are_refused_at_once(
    name, options, words, scored, tmp_path
):
    code, said, _ = scored(name, *options)
    assert code == 2 and words in said["says"] and not (tmp_path / "s.jsonl.part").exists()
