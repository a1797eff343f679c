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


# {x} is named, {y} the other one; whichever is meant, the reply takes something back
RETRACTIONS = [
    "{mark}\n\nHmm, on second thought: {y}.",
    "{mark}\n\nOn reflection, {y}.",
    "{mark}\n\nEdit: {y}.",
    "{mark}\nHmm. Let me reconsider. {y} is right.",
    "{mark}\n\nRevised verdict: {y}",
    "{mark}\nFinal: {y}",
    "{mark} (tentative)\nFinal: {y}",
    "{mark}\nThe other one, after all.",
    "{mark}\nNo: {y}!",
    "{mark}\n\nSorry, I mixed them up.",
    "{mark}\n\nI take that back.",
    "{mark}\nStrike that. {y} it is.",
    "{mark}\nBecause {y} is worse? No, it is better.",
    "{mark}\n\n{y} is better.",
]
MARKS = ["[[{x}]]", "Verdict: {x}", r"\boxed{{{x}}}", '{{"verdict": "{x}"}}', "**Answer:** {x}"]
MARKS += ["<answer>{x}</answer>", "{x} is better.", "Answer {x} wins.", "I prefer {x}.", "{x}."]
AROUND = [
    "I initially thought {mark}, though on balance I settle on {y}.",
    "The loser is {mark}",
    "The loser is:\n\n{mark}",
    "## Loser\n{mark}",
    "{mark} loses.",
    "Worse answer: {mark}",
    "Worst: {mark} Best: {y}",
    "Anything but {mark}",
    "{mark} is worse",
    "{mark} is better than {x}",
    "{mark} is the format. Verdict: {y}",
    "Output {mark} if {x} is better",
    "For example, {mark}",
    "My second choice is {mark}",
    "I would never say {mark}",
    "My verdict is the opposite of {mark}",
    "{mark}?",
]
SUBJECTS = ["{x}", "Answer {x}", "**Response {x}**"]
REVERSED = [
    "{s} is best avoided.",
    "{s} is the best example of what to avoid",
    "I prefer {s} less",
    "I prefer {s} the least.",
    "I would choose {s} last.",
    "I choose {s} as the loser",
    "{s} wins nothing",
    "{s} is better than {y} in no way",
    "{s} is preferred by nobody.",
    "It is false that {s} is better.",
    "Nobody thinks that {s} is better.",
    "{s} is better at lying.",
    "{s} is superior in confidence only, and wrong.",
    "{s} is superior in tone. It invents facts.",
    "{s} is better because it is wrong.",
    "{s} is better only in length.",
    "{s} is better left alone.",
    "{s} is the winner of nothing.",
    "Far from it: {s} is better.",
    "{s} wins? Hardly.",
    "{s} wins the prize for nonsense.",
    "Few would say that {s} is better.",
    "{s} is better, said no one.",
    "{s} is better. Just kidding.",
    "I prefer {s} over {y} when drunk.",
    "The better answer is {s} minus its lies.",
]
STILL_READ = [
    "Verdict: **Response {x}** is better because it is correct.",
    "Verdict: {x} (confidence: 51%)",
    "## Verdict\n**{x}**",
    "Verdict:\n{x}",
    "{x}</s>",
    "{x}<|im_end|>",
    "[[{x}]]<|eot_id|>",
    "{{'winner': '{x}'}}",
    "[THINK]{y} is better[/THINK]{x}",
    "<think>{y}</think>[[{x}]]",
    "[[{x}]] because it is complete.",
    "[[{x}]]\n\nReason: it is complete.",
    "[[{x}]] is better than {y}.",
    '{{"verdict": "{x}"}}\n\nAnswer {x} is better than answer {y} because it is correct.',
    '{{"verdict": "{x}", "reason": "{y} is short, and does not actually answer"}}',
    '{{"verdict": "{x}", "loser": "{y}"}}',
    "{y} is short, and {x} explains.\n\nTherefore, the better answer is [[{x}]].",
    "- {x}: complete\n- {y}: short\n\n[[{x}]]",
    "I think that {x} is better.",
    "After careful comparison, {x} is better since it explains the cause.",
]
UNREAD_SCORES = [
    "Score: 3\nScore for the other: 8",
    "Score: 3\n\nOn reflection, it deserves eight.",
    "Score: 3\nRevised: 8",
    "Score: 3. That is too low.",
    "Minus [[3]]",
    "Clarity: [[3]]",
    "[[3]] is the worst score",
    "I would not say [[3]]",
    '{"score": 3, "revised_score": 8}',
    '{"score": 3}\nThe second answer gets more.',
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


def test_what_takes_a_verdict_back_leaves_it_unread():
    """Every retraction and every reversal, of either answer, in an order that a seed shuffles, with
    thoughts in front: never the side that it names.
    """
    rng = random.Random(18)
    replies = []
    for x, y in ("AB", "BA"):
        for mark in MARKS:
            made = mark.format(x=x)
            replies += [text.format(mark=made, x=x, y=y) for text in RETRACTIONS]
            if not made.endswith("."):
                replies += [text.format(mark=made, x=x, y=y) for text in AROUND]
        for subject in SUBJECTS:
            made = subject.format(x=x)
            replies += [text.format(s=made, x=x, y=y) for text in REVERSED]
    rng.shuffle(replies)
    read = {}
    for reply in replies:
        text = rng.choice(THOUGHTS).format(x="A", y="B") + reply
        if read_verdict(text) is not None:
            read[text] = read_verdict(text)
    assert not read


@pytest.mark.parametrize("text", STILL_READ, ids=lambda text: repr(text)[:30])
def test_a_verdict_with_its_reason_is_read(text):
    for x, y in ("AB", "BA"):
        assert read_verdict(text.format(x=x, y=y)) is Verdict[x]


@pytest.mark.parametrize("reply", UNREAD_SCORES)
def test_two_scores_are_none(reply):
    assert Grading().read(reply) is None


@pytest.mark.parametrize(
    "reply",
    [
        '{"verdict": "A", "note": "on second thought, B"}',
        '{"verdict": "A", "final": "B"}',
        '{"verdict": "A", "reason": "B is better."}',
        '{"verdict": "A", "verdict": "B"}',
        "A is better because it fails",
        '{"verdict": "A", "preferable": "Answer B"}',
        '{"verdict": "A", "revised_verdict": "B"}',
        "{'winner': 'A', 'better': 'B'}",
        '{"choice":"A"} is the format. Verdict: B',
        "[[A]] ... [[B]]",
        "Verdict: A because it is long and winding and tells the reader much\n\n[[B]]",
        "## Verdict\nA or B",
    ],
)
def test_places_that_disagree_are_unread(reply):
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
