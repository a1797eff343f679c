"""Replies of judges as people and models write them: every form with every answer, made from a
seed; what says two things is not guessed at.
"""

import random

import pytest

from accord.rewards.judges.asking import Verdict, read_verdict
from accord.rewards.judges.grading import Grading

# {x} is the answer that is preferred, {y} the other one
FORMS = {
    "letter": ["{x}", "{x}.", "({x})", "**{x}**", "'{x}'", "`{x}`", "\n{x}\n", "__{x}__"],
    "noun": ["Answer {x}", "Response {x}", "Assistant {x}", "**Option {x}**", "Model {x}."],
    "brackets": ["[[{x}]]", "Both try.\n\n[[{x}]]", "My verdict: [[{x}]].", "[[Answer {x}]]"],
    "arena": ["[[{x}>>{y}]]", "[[{x}>{y}]]", "My final verdict is: [[{x}>{y}]]"],
    "box": [r"\boxed{{{x}}}", r"$\boxed{{\text{{{x}}}}}$", r"So the answer is \boxed{{{x}}}."],
    "tag": ["<answer>{x}</answer>", "<verdict>\n{x}\n</verdict>", "Hm.\n<winner>{x}</winner>"],
    "json": [
        '{{"verdict": "{x}"}}',
        '{{"winner": "{x}"}}',
        '```json\n{{"winner": "Answer {x}"}}\n```',
        '```\n{{"reason": "{y} is wrong {{see}}", "choice": "{x}"}}\n```',
        'Here it is: {{"better": "{x}", "confidence": 0.9}}',
    ],
    "line": [
        "Answer: {x}",
        "Answer: **{x}**",
        "**Answer:** {x}",
        "Verdict = Response {x}",
        "Both are fine, and {y} is short.\nFinal verdict: {x}",
        "Winner: Assistant {x}.",
        "## Final Answer: {x}",
        "My verdict is {x}.",
        "The better answer is ({x}).",
    ],
    "sentence": [
        "{x} is better",
        "Response {x} wins.",
        "Answer {x} is better than answer {y}.",
        "{x} is the better one because it is complete.",
        "I prefer answer {x} over {y}.",
        "The winner is Assistant {x}.",
        "Answer **{x}** is clearly the better answer.",
    ],
}
THOUGHTS = [
    "",
    "<think>First {y}, then [[{y}]]?</think>",
    "<think>\nAnswer: {y}\n</think>\n\n",
    "the thoughts began in the template, {y} is better</think>",
    "<reasoning>{y} is better</reasoning>\n",
]
TIES = ["tie", "Tie.", "C", "[[C]]", "[[tie]]", '{"winner": "tie"}', "Verdict: tie", "It's a tie."]
TIES += ["A draw", "**Tie**", "[[A=B]]", "Both answers are equally good.", r"\boxed{tie}"]
UNREAD = [
    "A is good, but B is better",
    "A is better in style, but overall I'd go with B.",
    "A is better. B is better.",
    "A or B",
    "Answer: A or B",
    "[[A]] or [[B]]",
    "Reply [[A]] if A is better, [[B]] if B is.",
    "not [[A]]",
    "[[A]] ... wait, B is right",
    "I cannot say that A is better.",
    "A is not better",
    "A would be better if it were true.",
    "Is A better?",
    "A is better than A",
    "Answer A is better written; answer B is right.",
    "A better answer would be longer.",
    "Neither.",
    "Both have merit.",
    '{"verdict": "A or B"}',
    '{"verdict": "A", "winner": "B"}',
    '{"verdict": "A", "why": ',
    '{"verdict": 1}',
    '{"A": true}',
    "<think>A is better",
    "<think>no end [[A]]",
    "I am sorry, I cannot compare these.",
    "D",
    "",
    None,
    7,
    "{" * 100_000,
    "[[" * 50_000,
    "A " * 100_000,
]


@pytest.mark.parametrize("form", FORMS)
def test_every_form_with_either_answer(form):
    """In either case, with thoughts that say otherwise, with blanks around it."""
    rng = random.Random(form)
    for text in FORMS[form]:
        for x, y in ("AB", "BA"):
            for thoughts in THOUGHTS:
                reply = (thoughts + text).format(x=x, y=y)
                assert read_verdict(reply) is Verdict[x], reply
            padded = " " * rng.randrange(3) + text.format(x=x, y=y) + "\n" * rng.randrange(3)
            assert read_verdict(padded) is Verdict[x], padded
            if form != "sentence":
                assert read_verdict(text.format(x=x.lower(), y=y.lower())) is Verdict[x], text


@pytest.mark.parametrize("reply", TIES)
def test_ties(reply):
    assert read_verdict(reply) is Verdict.TIE
    assert read_verdict(f"<think>A wins</think>{reply}") is Verdict.TIE


@pytest.mark.parametrize("reply", UNREAD, ids=lambda reply: repr(reply)[:30])
def test_what_says_no_one_thing_is_not_guessed(reply):
    assert read_verdict(reply) is None


def test_two_forms_that_disagree_are_unread():
    """Any two marked places of one reply, with either answer in each."""
    marked = [text for form in ("brackets", "box", "tag") for text in FORMS[form]]
    rng = random.Random(0)
    for _ in range(60):
        one, other = rng.sample(marked, 2)
        both = one.format(x="A", y="B") + "\n" + other.format(x="B", y="A")
        assert read_verdict(both) is None, both


@pytest.mark.parametrize(
    "reply, score",
    [
        ("8", 8),
        ("8.5", 8.5),
        ("**8**", 8),
        ("Score: 8", 8),
        ("**Score:** 8/10", 8),
        ("Rating: [[7]]", 7),
        ("7 out of 10", 7),
        (r"\boxed{6}", 6),
        ("The score is 7.", 7),
        ('<think>3, or 4</think>{"score": 9}', 9),
        ('```json\n{"rating": "9"}\n```', 9),
        ("Clear, and complete.\n\nScore: 9", 9),
        ("4/5", None),
        ("8 or 9", None),
        ("Score: 8\nScore: 9", None),
        ("I would give it an 8", None),
        ("<think>8", None),
        ('{"score": true}', None),
        ("eight", None),
        ("", None),
    ],
)
def test_scores(reply, score):
    assert Grading().read(reply) == score
