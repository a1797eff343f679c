"""Functions as rewards: the built-in one, one's own by name, and every answer without a number said
with its place.
"""

import pytest

from accord.rewards.load import load_reward
from accord.rewards.reward import prompt_text, require_all
from accord.types import Turn, UsageError

PROMPTS, ANSWERS = (
    ["How was it?"] * 3,
    ["Wonderful, I loved it!", "It was on a Monday.", "Awful, I hated it."],
)


def scores(spec, prompts=PROMPTS, answers=ANSWERS, **options):
    """As a comparison has them: a missing one is an error."""
    reward = load_reward(spec, {spec: options} if options else None)
    turns = [(Turn("user", prompt),) for prompt in prompts]
    return require_all(reward, reward(turns, answers, [{}] * len(answers)), answers)


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """Writes a module of one's own and gives its name."""
    monkeypatch.syspath_prepend(tmp_path)
    count = iter(range(100))

    def write(body: str) -> str:
        name = f"scorer_{tmp_path.name.replace('-', '_')}_{next(count)}"
        (tmp_path / f"{name}.py").write_text(body)
        return name

    return write


def test_vader_ranks_moods():
    good, neutral, bad = scores("vader")
    assert good > neutral == 0 > bad


@pytest.mark.parametrize(
    "made",
    [
        "[1, 2.5, True]",
        "np.array([1, 2.5, 1])",
        "torch.tensor([1.0, 2.5, 1.0])",
        "(1, 2.5, np.float32(1))",
    ],
)
def test_numbers_of_any_make_become_floats(mine, made):
    needs = "import torch" if "torch" in made else "import numpy as np"
    name = mine(f"{needs}\ndef f(prompts, answers): return {made}")
    found = scores(f"{name}:f")
    assert found == [1.0, 2.5, 1.0] and {type(s) for s in found} == {float}


def test_it_gets_prompts_and_answers_in_their_order(mine):
    name = mine(
        "def f(prompts, answers): return [len(p) * 100 + len(a) for p, a in zip(prompts, answers)]"
    )
    assert scores(f"{name}:f", ["a", "bb"], ["xyz", ""]) == [103.0, 200.0]


@pytest.mark.parametrize(
    "body, says",
    [
        (
            "def f(p, a): return [1.0, float('nan'), 2.0]",
            r"1 of 3 answers have no number .*; first answer 1, 'It was on a Monday.'",
        ),
        ("def f(p, a): return [1.0, None, float('inf')]", "2 of 3 answers .* first answer 1"),
        ("def f(p, a): return ['7/10', 1, 1]", "1 of 3 answers"),
        ("def f(p, a): raise KeyError('model')", r"3 × raised KeyError(.|\n)*KeyError: 'model'"),
        ("import time\ndef f(p, a): time.sleep(60)", "3 × timed out"),
    ],
)
def test_a_bad_score_is_an_error_with_its_place(mine, body, says):
    name = f"{mine(body)}:f"
    with pytest.raises(UsageError, match=says):
        scores(name, timeout=0.5)


def test_a_single_question_is_read_as_it_stands():
    assert prompt_text([Turn("user", "Why?")]) == "Why?"
    assert (
        prompt_text([Turn("system", "Be kind."), Turn("user", "Why?")])
        == "system: Be kind.\n\nuser: Why?"
    )
