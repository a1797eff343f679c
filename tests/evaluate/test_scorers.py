"""Scorers: the built-in one, one's own by name, and every bad score said with its place."""

import pytest

from accord.rewards.scorers import load_scorer, prompt_text
from accord.types import Turn, UsageError

PROMPTS, ANSWERS = (
    ["How was it?"] * 3,
    ["Wonderful, I loved it!", "It was on a Monday.", "Awful, I hated it."],
)


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
    good, neutral, bad = load_scorer("vader")(PROMPTS, ANSWERS)
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
    name = mine(f"import numpy as np, torch\ndef f(prompts, answers): return {made}")
    scores = load_scorer(f"{name}:f")(PROMPTS, ANSWERS)
    assert scores == [1.0, 2.5, 1.0] and {type(s) for s in scores} == {float}


def test_it_gets_prompts_and_answers_in_their_order(mine):
    name = mine(
        "def f(prompts, answers): return [len(p) * 100 + len(a) for p, a in zip(prompts, answers)]"
    )
    assert load_scorer(f"{name}:f")(["a", "bb"], ["xyz", ""]) == [103.0, 200.0]


@pytest.mark.parametrize(
    "body, says",
    [
        (
            "def f(p, a): return [1.0, float('nan'), 2.0]",
            r"1 of 3 scores are no finite number; first answer 1, 'It was on a Monday.': nan",
        ),
        ("def f(p, a): return [1.0, None, float('inf')]", "2 of 3 scores .* first answer 1"),
        ("def f(p, a): return ['7/10', 1, 1]", "1 of 3 scores .* '7/10'"),
        ("def f(p, a): return [[1, 2], 1, 1]", "1 of 3 scores"),
        ("import numpy as np\ndef f(p, a): return np.ones((3, 2))", "3 of 3 scores"),
        ("def f(p, a): return [1.0]", "1 scores for 3 answers"),
        ("def f(p, a): return 1.0", "failed on 3 answers: TypeError"),
        ("def f(p, a): raise KeyError('model')", "failed on 3 answers: KeyError: 'model'"),
        ("def f(p): return [1]", "failed on 3 answers: TypeError"),
    ],
)
def test_a_bad_score_is_an_error_with_its_place(mine, body, says):
    scorer = load_scorer(f"{mine(body)}:f")
    with pytest.raises(UsageError, match=says):
        scorer(PROMPTS, ANSWERS)


def test_a_scorer_that_is_not_there_is_said(mine):
    name = mine("g = 3\ndef f(p, a): return []")
    broken = mine("import nonexistent_thing")
    for wrong, says in [
        ("vadr", "no scorer is called 'vadr'. Known: vader"),
        (f"{name}:g", "no function 'g'. It has: f"),
        (f"{name}:h", "no function 'h'"),
        ("nowhere:f", "PYTHONPATH=."),
        (f"{broken}:f", "nonexistent_thing"),
        ("a-b:f", "module:function"),
    ]:
        with pytest.raises(UsageError, match=says):
            load_scorer(wrong)


def test_prompts_and_answers_must_match():
    with pytest.raises(UsageError, match="2 answers to 3 prompts"):
        load_scorer("vader")(PROMPTS, ANSWERS[:2])


def test_a_single_question_is_read_as_it_stands():
    assert prompt_text([Turn("user", "Why?")]) == "Why?"
    assert (
        prompt_text([Turn("system", "Be kind."), Turn("user", "Why?")])
        == "system: Be kind.\n\nuser: Why?"
    )
